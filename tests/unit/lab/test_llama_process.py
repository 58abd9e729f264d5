"""guard.lab.llama_process: the child's command line, and its refusal to do harm unasked."""

import io
import json

from guard.lab.llama_process import obey, parse_arguments, say


def test_only_the_model_must_be_given() -> None:
    options = parse_arguments(["--model", "m.gguf"])
    assert (options.port, options.k, options.draft, options.allow_faults) == (0, 3, "", False)


def test_faults_are_refused_unless_allowed() -> None:
    options = parse_arguments(["--model", "m.gguf"])
    assert "without --allow-faults" in obey(b'{"op": "corrupt"}', options)["error"]


def test_a_bad_order_is_answered_and_not_fatal() -> None:
    options = parse_arguments(["--model", "m.gguf", "--allow-faults"])
    assert "JSONDecodeError" in obey(b"nonsense", options)["error"]
    assert "unknown order" in obey(b'{"op": "melt"}', options)["error"]


def test_answers_are_single_json_lines() -> None:
    out = io.StringIO()
    say({"url": "http://127.0.0.1:1"}, out)
    assert out.getvalue().endswith("\n")
    assert json.loads(out.getvalue()) == {"url": "http://127.0.0.1:1"}
