"""Facts of a machine on which nothing is wrong, for tests to break one at a time."""

from deploy.doctor.access_rules import Doors
from deploy.doctor.facts import (
    AriFacts,
    ClockFacts,
    CpuFacts,
    LimitFacts,
    MemoryFacts,
    NameFacts,
    PortFacts,
    SipFacts,
    SupervisorFacts,
    TlsFacts,
    VoiceServerFacts,
    VolumeFacts,
)

NOW_S = 1_800_000_000.0
GIB = 1 << 30
CALLS = 2000
WORKERS = 4
MEDIA = (20000, 29999)
ASTERISK = (10000, 19999)

CLOCK = ClockFacts(synchronized=True, max_error_ms=2.0, source="tsc")
LIMITS = LimitFacts(
    fds=65536,
    nice_floor=-20,
    receive_buffer_bytes=212992,
    conntrack=(100, 262144),
    datagrams=1_000_000,
    lost_datagrams=0,
)
CPUS = CpuFacts(usable=4, quota=None, governors=("performance",), steal_share=0.0)
MEMORY = MemoryFacts(available_bytes=8 * GIB, swap_bytes=0)
VOLUME = VolumeFacts("RUN_DIR", "/run/ots", 2 * GIB, 0.9, 0.9, in_memory=True)
ARI = AriFacts(version="22.10.1", max_open_files=16384, takes_any_password=False)
OWN_NAME = NameFacts("host", ("127.0.0.1",), 0.2)
ROOT_NAME = NameFacts("A.ROOT-SERVERS.NET", ("198.41.0.4",), 5.0)
PORTS = PortFacts(frozenset(), 0, "", (32768, 60999), ())
SUPERVISOR = SupervisorFacts(runs=True, status="ok")
TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", "An authority", NOW_S + 60 * 86400.0)
VOICE_SERVER = VoiceServerFacts(
    "ECS_MEDIA_WSS_URL",
    "wss://voice.example/stream",
    NameFacts("voice.example", ("192.0.2.1",), 3.0),
    TLS,
    handshake_ms=40.0,
    accepts_unsigned=False,
)
SIP = SipFacts("sip.example:5061", TlsFacts("TLSv1.3", "", "", NOW_S + 60 * 86400.0, False))
DOORS = Doors(
    "127.0.0.1", "http://127.0.0.1:8088", "127.0.0.1", signed=True, allow_unencrypted=False
)
