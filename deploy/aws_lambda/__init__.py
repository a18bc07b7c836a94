"""A Lambda that keeps a security group open for AWS's published address ranges, and no others.

At run time it needs boto3 and the standard library only, as both are part of Lambda's runtime.
"""
