"""Which keys name a secret, and what is one's own secret in `extra_data`."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.access.secret_keys import PLACEHOLDER, hide, hide_inputs, is_secret_key, secret_texts


@pytest.mark.parametrize(
    "name",
    [
        "key", "KEY", "api_key", "api-key", "api.key", "apiKey", "APIKey", "APIKEY", "apikey", "api_key_comfy_org",
        "x-api-keys", "keyId", "key2", "OPENAI_API_KEY", "token", "auth_token_comfy_org", "authToken", "accesstoken",
        "OAuth2Token", "bearerTOKEN", "auth", "oauth", "OAUTH", "X-Auth", "Authorization", "authorisation",
        "basicAuth", "password", "dbPassword", "PASSWORDS", "secret", "clientSecret", "client_secrets", "secret1",
    ],
)  # fmt: skip
def test_keys_that_name_a_secret(name: str) -> None:
    assert is_secret_key(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "preview_method", "author", "authors", "AuthorName", "tokenizer", "keyframes", "keyboard", "monkey",
        "hotkeys", "client_id", "create_time", "secretary", "workflow", "passwordless", "comfy_usage_source", "中文",
    ],
)  # fmt: skip
def test_keys_that_name_none(name: str) -> None:
    assert not is_secret_key(name)


EXTRA: dict[str, Any] = {
    "api_key_comfy_org": "first-key",
    "preview_method": "auto",
    "services": [{"accessToken": "second-key", "url": "http://x"}, {"auth": {"user": "kim", "values": ["third", 44]}}],
    "extra_pnginfo": {"workflow": {"key": "a widget"}},
}


def test_ones_own_secrets() -> None:
    assert sorted(secret_texts(EXTRA)) == ["44", "first-key", "kim", "second-key", "third"]


def test_what_is_hidden() -> None:
    assert hide(EXTRA) == {
        "api_key_comfy_org": PLACEHOLDER,
        "preview_method": "auto",
        "services": [{"accessToken": PLACEHOLDER, "url": "http://x"}, {"auth": PLACEHOLDER}],
        "extra_pnginfo": {"workflow": {"key": "a widget"}},
    }
    assert hide({"token": None, "auth": False, "key": 5}) == {"token": None, "auth": False, "key": PLACEHOLDER}


def test_inputs_by_their_place() -> None:
    inputs = {
        "7.api_key": "x",
        "a.key.text": "kept",
        "8.options": {"token": "x", "size": 1},
        "seed": 5,
        "prompt": "key",
    }
    assert hide_inputs(inputs) == {**inputs, "7.api_key": PLACEHOLDER, "8.options": {"token": PLACEHOLDER, "size": 1}}


def test_endless_nesting() -> None:
    value: Any = {"key": "x"}
    for _ in range(5000):
        value = [value]
    assert list(secret_texts({"a": value})) == []
    assert PLACEHOLDER in str(hide({"a": value}))
