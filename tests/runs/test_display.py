"""The display: lines where there is no terminal, a panel where there is one."""

import sys

from alphajax.runs.display import Display, duration


def test_durations_have_hours_only_when_needed():
    assert [duration(x) for x in (0.0, 59.9, 60.0, 3599.0, 3600.0, 36_061.0)] == [
        "0:00",
        "0:59",
        "1:00",
        "59:59",
        "1:00:00",
        "10:01:01",
    ]


def test_without_a_terminal_rows_become_a_line_now_and_then(capsys):
    with Display("a run", every=1000.0, live=False) as display:
        display.update({"time": "0:01", "best": "8"})
        display.update({"time": "0:02", "best": "7"})
        display.say("rank 7")
        display.update({"time": "0:03", "best": "7"}, force=True)
    assert capsys.readouterr().out.splitlines() == [
        "time 0:01  best 8",
        "rank 7",
        "time 0:03  best 7",
    ]


def test_on_a_terminal_a_panel_is_redrawn(capsys):
    with Display("a run", live=True) as display:
        display.update({"best": "[8]"})
        display.say("rank [7]")
    out = capsys.readouterr().out
    assert "rank [7]" in out and "a run" in out


def test_without_rich_lines_are_printed(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.live", None)
    with Display("a run", live=True) as display:
        display.update({"best": "8"})
    assert capsys.readouterr().out == "best 8\n"
