"""The tables of ready-made tasks: from a file, the environment, a framework and by code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outwork.contrib.mail import MailSettings
from outwork.errors import SettingsError
from outwork.settings import Settings, flat, load


def written(folder: Path, text: str) -> Path:
    path = folder / "outwork.toml"
    path.write_text(text)
    return path


def mail_of(settings: Settings) -> MailSettings:
    found = settings.sections["mail"]
    assert isinstance(found, MailSettings)
    return found


def test_nothing_given_is_nothing_there() -> None:
    assert load(environ={}).settings.sections == {}


def test_each_layer_beats_the_one_before(tmp_path: Path) -> None:
    file = written(tmp_path, '[mail]\nhost = "a"\nuser = "me"\nsecurity = "ssl"\ntimeout = "1m"\nport = 2525\n')
    loaded = load(
        config_file=file,
        framework={"mail.host": "b", "mail.sender": "x@example.org", "framework": "Flask"},
        environ={"OUTWORK_MAIL__HOST": "c", "OUTWORK_MAIL__INSECURE_LOGIN": "true", "OUTWORK_MAIL__PORT": "465"},
    )
    assert mail_of(loaded.settings) == MailSettings(
        host="c", user="me", security="ssl", timeout=60.0, sender="x@example.org", insecure_login=True, port=465
    )
    assert loaded.origins["mail.host"] == "environment OUTWORK_MAIL__HOST"
    assert loaded.origins["mail.user"] == f"{file}:3"


def test_a_project_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pyproject.toml").write_text('[tool.outwork.mail]\nhost = "a"\n')
    assert mail_of(load(environ={}).settings).host == "a"


def test_a_secret_is_masked_and_may_be_in_a_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    settings = load(config_file=written(tmp_path, '[mail]\npassword_file = "password"\n')).settings
    assert mail_of(settings).password == "hunter2"
    assert "hunter2" not in repr(settings) + json.dumps(flat(settings))
    assert flat(settings)["mail.password"] == "***"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mail]\nhots = "a"', r'outwork.toml:2 \[mail\] hots: unknown key \(did you mean "host"\?\)'),
        ("[mail]\nport = 99999", r"outwork.toml:2 \[mail\]: port = 99999: a number from 1 to 65535"),
        ('[mail]\nport = "25"', r"outwork.toml:2 \[mail\] port = '25': Expected `int | null`"),
        ('[mail]\nsecurity = "tsl"', r"Invalid enum value 'tsl'"),
        ("[mail]\nhost = { name = 1 }", r"\[mail.host\] name: unknown key"),
        ('[mail]\ntimeout = "soon"', r"\[mail\] timeout = 'soon'"),
        ('[mail]\npassword_file = "nowhere"', "cannot read .*nowhere"),
        ('[mail]\npassword = "a"\npassword_file = "b"', "both given"),
        ("[mail]\npassword = 5", r"outwork.toml:2 \[mail\] password: Expected `str`"),
        ('[male]\nhost = "a"', r"\[male\]: unknown table \(did you mean \[mail\]\?\)"),
    ],
)
def test_what_cannot_be_is_an_error_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(config_file=written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OUTWORK_MAIL__HOTS", "a", r"environment OUTWORK_MAIL__HOTS: unknown key \(did you mean \"host\"\?\)"),
        ("OUTWORK_MAIL__PORT", "many", "environment OUTWORK_MAIL__PORT"),
        ("OUTWORK_MALE__HOST", "a", "unknown setting"),
    ],
)
def test_the_environment_is_judged_alike(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(environ={name: value})
