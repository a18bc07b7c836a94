"""Who may import whom: read from the sources, so that the design stays what docs/design.md says."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
OURS = ("deploy", "loadtest", "shim", "supervisor", "tests", "voice_agent")

PURE = {
    "deploy.aws_lambda.metrics",
    "deploy.aws_lambda.plan",
    "deploy.aws_lambda.ranges",
    "deploy.aws_lambda.settings",
    "deploy.aws_lambda.trigger",
    "deploy.doctor.access_rules",
    "deploy.doctor.evidence",
    "deploy.doctor.facts",
    "deploy.doctor.finding",
    "deploy.doctor.machine_rules",
    "deploy.doctor.network_rules",
    "deploy.doctor.phi_scan",
    "deploy.doctor.seen",
    "shim.agent_messages",
    "shim.call_quality",
    "shim.control",
    "shim.environment",
    "shim.histogram",
    "shim.masking",
    "shim.inbound_stream",
    "shim.outbound_stream",
    "shim.pacer",
    "shim.pcmu",
    "shim.playout",
    "shim.port_layout",
    "shim.recording_format",
    "shim.recording_keys",
    "shim.recording_messages",
    "shim.recording_tap",
    "shim.rtp_packet",
    "shim.twilio_signature",
    "supervisor.api.access",
    "supervisor.workers.admission",
    "supervisor.phone.allowed_hosts",
    "supervisor.ari.events",
    "supervisor.calls.ari_meaning",
    "supervisor.api.audit_chain",
    "supervisor.calls.events",
    "supervisor.phone.call_forms",
    "supervisor.calls.measures",
    "supervisor.calls.names",
    "supervisor.phone.call_search",
    "supervisor.calls.state",
    "supervisor.calls.table",
    "supervisor.console.history",
    "supervisor.console.judge",
    "supervisor.console.masking",
    "supervisor.console.picture",
    "supervisor.console.seen",
    "supervisor.phone.dial_target",
    "supervisor.phone.inbound_routes",
    "supervisor.phone.phone_call",
    "supervisor.phone.phone_record",
    "supervisor.workers.placement",
    "supervisor.workers.port_table",
    "supervisor.api.rate_limit",
    "supervisor.recordings.timeline",
    "supervisor.rest.errors",
    "supervisor.rest.form",
    "supervisor.rest.orders",
    "supervisor.rest.parameters",
    "supervisor.rest.resource",
    "supervisor.phone.toll_guard",
    "supervisor.traces.settings",
    "supervisor.traces.setup_traces",
    "supervisor.phone.twiml",
    "supervisor.phone.verbs",
    "supervisor.workers.health",
    "voice_agent.agent",
    "voice_agent.call_outputs",
    "voice_agent.config",
    "voice_agent.conversation",
    "voice_agent.masking",
    "voice_agent.mulaw",
    "voice_agent.offline_agent",
    "voice_agent.outbox",
    "voice_agent.realtime_call",
    "voice_agent.realtime_messages",
    "voice_agent.signature",
    "voice_agent.sounds",
    "voice_agent.speech",
    "voice_agent.stream_messages",
    "voice_agent.voice_run",
}
"""What goes in and what comes out is all there is to them: no loop, no socket, no clock."""

PURE_IN_DEPLOY = {"deploy.asterisk_version", "deploy.settings", "deploy.sip_trunk"}
"""The same for what sets a machine up."""

IMPURE_LIBRARIES = {
    "asyncio",
    "concurrent",
    "fcntl",
    "io",
    "mmap",
    "multiprocessing",
    "os",
    "pathlib",
    "resource",
    "select",
    "shutil",
    "signal",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
}
PURE_PACKAGES = {"cryptography", "msgspec"}
"""The only packages that pure modules use: they compute."""

FROM_SHIM = {
    "shim.config",
    "shim.control",
    "shim.control_channel",
    "shim.core_dumps",
    "shim.environment",
    "shim.histogram",
    "shim.log_setup",
    "shim.masking",
    "shim.port_layout",
    "shim.port_memory",
    "shim.recording_format",
    "shim.recording_key_file",
    "shim.recording_keys",
    "shim.twilio_signature",
}
"""What the supervisor takes of the worker's package: what they share, and the early check."""

JOINERS = {
    "deploy.aws_lambda.handler",
    "deploy.doctor.examination",
    "deploy.doctor.settings",
    "shim.call_session",
    "shim.recorder",
    "shim.stream_connector",
    "shim.worker",
    "supervisor.asterisk_watch",
    "supervisor.calls.control",
    "supervisor.console.lookout",
    "supervisor.phone.orders",
    "supervisor.phone.resumption",
    "supervisor.phone.runs",
    "supervisor.phone.dialing",
    "supervisor.phone.phone_calls",
    "supervisor.phone.setup",
    "supervisor.recordings.uploader",
    "supervisor.phone.script_run",
    "supervisor.workers.stream_control",
    "supervisor.part_settings",
    "supervisor.supervise",
    "supervisor.phone.switchboard",
    "voice_agent.agent_session",
    "voice_agent.openai_agent",
}
"""Modules that know several edges, and put them together; so does each `__main__`."""

LAYERS = {
    "deploy.doctor.audit": {"supervisor.config"},
    "deploy.doctor.peer_probes": {
        "deploy.doctor.tls_probe",
        "shim.agent_link",
        "shim.link_opener",
        "supervisor.ari.connection",
        "supervisor.ari.rest",
    },
    "shim.config": {
        "shim.call_session",
        "shim.link_opener",
        "shim.recording_key_file",
        "shim.recording_settings",
    },
    "shim.link_opener": {"shim.agent_link"},
    "shim.log_setup": {"shim.log_hooks"},
    "shim.media_clock": {"shim.timer_fd"},
    "shim.worker_figures": {"shim.call_session"},
    "supervisor.ari.calls": {"supervisor.ari.rest"},
    "supervisor.ari.link": {
        "supervisor.ari.calls",
        "supervisor.ari.connection",
        "supervisor.ari.rest",
    },
    "supervisor.ari.rest": {"supervisor.ari.connection"},
    "supervisor.command": {"supervisor.config"},
    "supervisor.config": {"supervisor.ari.connection"},
    "supervisor.workers.control_server": {"shim.control_channel"},
    "supervisor.api.server": {
        "supervisor.api.audit_log",
        "supervisor.api.doorkeeper",
        "supervisor.console.routes",
        "supervisor.rest.routes",
        "supervisor.workers.pool",
    },
    "supervisor.console.routes": {"supervisor.console.feed"},
    "supervisor.metrics": {
        "supervisor.ari.connection",
        "supervisor.metric_families",
        "supervisor.status",
    },
    "supervisor.phone.notices": {"supervisor.phone.webhooks"},
    "supervisor.phone.sounds": {"supervisor.phone.webhooks"},
    "supervisor.recordings.upload": {"supervisor.recordings.store"},
    "supervisor.status": {"supervisor.workers.slot"},
    "supervisor.traces.tracing": {"supervisor.traces.export"},
    "supervisor.workers.pool": {"supervisor.workers.control_server", "supervisor.workers.slot"},
    "supervisor.workers.slot": {"supervisor.workers.control_server"},
    "voice_agent.log_setup": {"voice_agent.log_hooks"},
    "voice_agent.transfer": {"voice_agent.tools"},
}
"""Every other edge knows no edge but those that it is built on."""


def modules(*packages: str) -> dict[str, Path]:
    """All modules right in these packages by name."""
    return {
        f"{package}.{path.stem}": path
        for package in packages
        for path in sorted((CHECKOUT / package.replace(".", "/")).glob("*.py"))
        if path.stem != "__init__"
    }


def packages_in(package: str) -> list[str]:
    """A package and those within it."""
    inner = sorted((CHECKOUT / package).glob("*/__init__.py"))
    return [package, *(f"{package}.{path.parent.name}" for path in inner)]


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file; of ours by their full names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from _imported_from(node)


def _imported_from(node: ast.ImportFrom) -> Iterator[str]:
    """`from shim import control` names a module, `from shim.control import Hello` does too."""
    source = node.module or ""
    for alias in node.names:
        whole = f"{source}.{alias.name}"
        yield whole if (CHECKOUT / f"{whole.replace('.', '/')}.py").exists() else source


def ours_in(path: Path) -> set[str]:
    """What a file imports of this repository."""
    return {name for name in imports(path) if name.split(".")[0] in OURS}


PROGRAM = modules(
    "deploy.aws_lambda", "deploy.doctor", "shim", *packages_in("supervisor"), "voice_agent"
)
DEPLOY = modules("deploy")


def test_the_list_of_pure_modules_is_true() -> None:
    """Every module that is called pure exists."""
    assert set(PROGRAM) >= PURE


@pytest.mark.parametrize("name", sorted(PURE | PURE_IN_DEPLOY))
def test_pure_modules(name: str) -> None:
    """They import pure modules, msgspec, and of the standard library what does no I/O."""
    for imported in imports((PROGRAM | DEPLOY)[name]):
        top = imported.split(".")[0]
        assert top not in IMPURE_LIBRARIES, imported
        if top in OURS:
            assert imported in PURE | PURE_IN_DEPLOY, imported
        else:
            assert top in PURE_PACKAGES or top in sys.stdlib_module_names, imported


@pytest.mark.parametrize("name", sorted(name for name in PROGRAM if name.startswith("supervisor.")))
def test_what_the_supervisor_takes_of_the_worker(name: str) -> None:
    """The supervisor knows the language and the memory that it shares with workers, no more."""
    taken = {module for module in ours_in(PROGRAM[name]) if not module.startswith("supervisor.")}
    assert taken <= FROM_SHIM
    if "shim.config" in taken:
        assert name == "supervisor.__main__", "the early check of the workers' settings is its own"


@pytest.mark.parametrize("name", sorted(name for name in PROGRAM if name.startswith("shim.")))
def test_the_worker_does_not_know_the_supervisor(name: str) -> None:
    """A worker takes nothing from any other package."""
    assert all(module.startswith("shim.") for module in ours_in(PROGRAM[name]))


@pytest.mark.parametrize("name", sorted(name for name in PROGRAM if "voice_agent." in name))
def test_the_voice_agent_stands_alone(name: str) -> None:
    """Customers copy it: it takes nothing from the other packages."""
    assert all(module.startswith("voice_agent.") for module in ours_in(PROGRAM[name]))


@pytest.mark.parametrize("name", sorted(PROGRAM | DEPLOY))
def test_programs_do_not_import_their_tests(name: str) -> None:
    """What runs in production knows neither tests nor load generators, nor who examines it."""
    path = (PROGRAM | DEPLOY)[name]
    taken = ours_in(path)
    assert not {module.split(".")[0] for module in taken} & {"loadtest", "tests"}
    if not name.startswith("deploy.doctor."):
        assert not any(module.startswith("deploy.doctor.") for module in taken)


@pytest.mark.parametrize("name", sorted(set(PROGRAM) - PURE - JOINERS))
def test_edges(name: str) -> None:
    """Only few modules join edges; whoever wants to be one more has to say so here."""
    if not name.endswith("__main__"):
        edges = ours_in(PROGRAM[name]) & set(PROGRAM) - PURE
        assert edges <= LAYERS.get(name, set())


def test_no_circles() -> None:
    """The imports of our modules have an order."""
    edges = {name: ours_in(path) & set(PROGRAM) for name, path in PROGRAM.items()}
    done: set[str] = set()
    while edges:
        free = {name for name, needs in edges.items() if needs <= done}
        assert free, f"a circle among {sorted(edges)}"
        done |= free
        edges = {name: needs for name, needs in edges.items() if name not in free}
