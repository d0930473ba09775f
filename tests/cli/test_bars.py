import io
import itertools

from oocml.cli import bars


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_terminals_get_a_bar_per_stage(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with bars.stages() as progress:
        progress("read", 50, 100)
        progress("write", 0, 10)
        progress("write", 10, 10)
    assert "read:" in stream.getvalue()
    assert "write:" in stream.getvalue()


def test_logs_get_a_line_now_and_then(monkeypatch, capsys):
    clock = itertools.count(0, 4)
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    with bars.stages() as progress:
        for done in range(0, 101, 20):
            progress("read", done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "stage=read done=40% eta_s=12",
        "stage=read done=100% eta_s=0",
    ]
