"""Packs the Lambda: `python -m deploy.aws_lambda.bundle DIRECTORY` writes a ZIP there.

The same sources give the same bytes, and the name has their hash in it: CloudFormation replaces the
Lambda's code exactly when its key in the bucket is another one.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parents[1]

NOT_IN_IT = "bundle.py"
OLDEST = (1980, 1, 1, 0, 0, 0)
"""What a ZIP calls a file's time when it has none."""


def pack() -> bytes:
    """The ZIP: the modules under their names in this repository."""
    sources = [CHECKOUT / "deploy" / "__init__.py", *sorted(PACKAGE.glob("*.py"))]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sources:
            if source.name != NOT_IN_IT:
                entry = zipfile.ZipInfo(source.relative_to(CHECKOUT).as_posix(), OLDEST)
                entry.external_attr = 0o644 << 16  # Lambda's user must be able to read it
                archive.writestr(entry, source.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def main() -> None:
    """Write the ZIP into the directory that was named, and say where it is."""
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit("usage: python -m deploy.aws_lambda.bundle DIRECTORY (which exists)")
    content = pack()
    digest = hashlib.sha256(content).hexdigest()[:16]
    path = Path(sys.argv[1]) / f"address-ranges-{digest}.zip"
    path.write_bytes(content)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
