"""Records of calls on a real disk."""

from pathlib import Path

from structlog.testing import capture_logs

from voice_agent.agent import CallMetadata
from voice_agent.call_record import Recorder
from voice_agent.conversation import CallerTurn

CALL = CallMetadata("CA1", "MZ1", "AC1", {"caller": "+15550100"})


def test_old_files_are_deleted_and_others_left_alone(tmp_path: Path) -> None:
    """Retention counts days; a file of another name is not ours."""
    old, foreign = tmp_path / "calls-2020-01-01.jsonl", tmp_path / "notes.txt"
    old.touch()
    foreign.touch()
    Recorder(tmp_path, 30).write(CALL, 0.0, [CallerTurn("i", "hello")])
    assert not old.exists()
    assert foreign.exists()
    [written] = tmp_path.glob("calls-*.jsonl")
    assert written.read_text().count("\n") == 1


def test_a_disk_that_fails_ends_no_call(tmp_path: Path) -> None:
    """It is logged, and nothing that was said with it."""
    blocked = tmp_path / "file"
    blocked.touch()
    with capture_logs() as logs:
        Recorder(blocked, 30).write(CALL, 0.0, [CallerTurn("i", "hello")])
    assert [entry["event"] for entry in logs] == ["record_failed"]
    assert "hello" not in str(logs)
