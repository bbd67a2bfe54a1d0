"""`horae apply` and `horae diff` on files of several forms."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from horae.cli.files import read_schedules
from horae_domain.errors import InvalidField


def definition(id_: str, **more: Any) -> dict[str, Any]:
    action = {"type": "queue", "queue": "q"}
    return {"id": id_, "trigger": {"type": "manual"}, "action": action, **more}


FORMS = {
    "set.json": '{"set": "desk", "schedules": [{"id": "a"}, {"id": "b"}]}',
    "list.json": '[{"id": "a"}, {"id": "b"}]',
    "lines.jsonl": '{"id": "a"}\n\n{"id": "b"}\n',
    "set.yaml": "set: desk\nschedules:\n- id: a\n- id: b\n",
    "documents.yml": "id: a\n---\nid: b\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_has_its_definitions_in_any_form(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FORMS[name])
    content = read_schedules(str(tmp_path / name))
    assert content.schedules == [{"id": "a"}, {"id": "b"}]
    assert content.set == ("desk" if name.startswith("set") else None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "3"),
        ("a.json", '{"schedules": [], "sets": 1}'),
        ("a.yaml", "a: [1"),
        ("a.yaml", "set: a\nschedules: []\n---\nset: b\nschedules: []\n"),
    ],
)
def test_a_file_of_another_form_is_refused(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidField):
        read_schedules(str(tmp_path / name))


def test_apply_and_diff_say_what_they_do(horae, tmp_path):
    name = f"set-{uuid.uuid4().hex[:8]}"
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps([definition(f"{name}-a"), definition(f"{name}-b")]))
    assert horae("diff", "--exit-code", str(file)).code == 1
    assert "2 created" in horae("apply", str(file)).out
    assert horae("diff", "--exit-code", str(file)).code == 0
    file.write_text(json.dumps([definition(f"{name}-a", payload=7)]))
    shown = horae("diff", str(file)).out
    assert "payload: None -> 7" in shown
    assert f"{name}-b" in shown
    dry = json.loads(horae("apply", "--dry-run", "--prune", "--json", str(file)).out)
    assert (dry["update"], dry["gone"], dry["done"]) == ([f"{name}-a"], [f"{name}-b"], None)
    done = json.loads(horae("apply", "--prune", "--json", str(file)).out)["done"]
    assert (done["updated"], done["cancelled"], done["refused"]) == (1, 1, {})
    assert "1 as they were" in horae("apply", "--prune", str(file)).out


def test_what_somebody_else_made_is_refused(horae, tmp_path):
    name = f"other-{uuid.uuid4().hex[:8]}"
    (tmp_path / "one.json").write_text(json.dumps([definition(name)]))
    (tmp_path / "two.json").write_text(json.dumps([definition(name, payload=1)]))
    assert horae("apply", "--set", f"{name}-1", "one.json").code == 0
    refused = horae("apply", "two.json")
    assert refused.code == 1
    assert "--adopt" in refused.err
    assert horae("apply", "--adopt", "two.json").code == 0


def test_every_problem_of_a_file_is_a_line(horae, tmp_path):
    wrong = [definition("a", priority="odd"), definition("b", trigger={"type": "cron"})]
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    refused = horae("apply", "wrong.json")
    assert refused.code == 1
    assert [line.split(")")[0] for line in refused.err.splitlines()] == [
        "horae: invalid_field (schedules[0].priority",
        "horae: invalid_trigger (schedules[1].trigger.expression",
    ]


def test_what_is_wrong_with_a_file_is_said_where_no_engine_runs(command, tmp_path):
    (tmp_path / "wrong.json").write_text(json.dumps([definition("a", priority="odd")]))
    refused = command("apply", "wrong.json")
    assert refused.code == 1
    assert "schedules[0].priority" in refused.err
