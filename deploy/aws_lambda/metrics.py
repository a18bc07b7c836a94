"""Numbers of one run as a line of the log from which CloudWatch makes metrics. Pure.

The format is in "Embedded metric format specification", Amazon CloudWatch User Guide.
"""

import json
from collections.abc import Mapping

NAMESPACE = "OpenTelephonyStack/AddressRanges"
DIMENSION = "SecurityGroup"


def metrics_line(
    group_id: str, now_ms: int, numbers: Mapping[str, int], facts: Mapping[str, object]
) -> str:
    """One line of JSON: `numbers` become metrics of this group, `facts` are only written down."""
    definition = {
        "Namespace": NAMESPACE,
        "Dimensions": [[DIMENSION]],
        "Metrics": [{"Name": name, "Unit": "Count"} for name in numbers],
    }
    metadata = {"Timestamp": now_ms, "CloudWatchMetrics": [definition]}
    return json.dumps({**facts, "_aws": metadata, DIMENSION: group_id, **numbers})
