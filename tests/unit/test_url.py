"""Backend URLs."""

from __future__ import annotations

import pytest

from cronlock.engines import registry
from cronlock.engines.url import URL
from cronlock.errors import ConfigError


def test_all_parts() -> None:
    """Credentials, several hosts, IPv6, path and parameters, each decoded."""
    url = URL("redis://us%65r:p%40ss@one:1,[::1]:2,three/5?prefix=x&ca=%2Fa")
    assert (url.scheme, url.user, url.password) == ("redis", "user", "p@ss")
    assert url.hosts == [("one", 1), ("::1", 2), ("three", None)]
    assert (url.path, url.params) == ("/5", {"prefix": "x", "ca": "/a"})


def test_only_a_password() -> None:
    """redis://:secret@host has no user."""
    url = URL("redis://:secret@host")
    assert (url.user, url.password) == (None, "secret")


def test_its_text_hides_the_password() -> None:
    """Messages show the URL without its secrets."""
    assert str(URL("redis://user:geheim@host:1/2?prefix=a")) == "redis://host:1/2"


@pytest.mark.parametrize(
    "text",
    [
        *("", "redis", "redis:host", "://host", "redis://host:x", "redis://host:0", "redis://host:70000"),
        *("redis://a,,b", "redis://[::1", "redis://h?x", "redis://h?a=1&a=2", "redis://h/%zz", "redis://a b"),
        "redis://:secret@:1",
    ],
)
def test_bad_urls_are_refused(text: str) -> None:
    """One line, and never the password."""
    with pytest.raises(ConfigError) as caught:
        URL(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_scheme_names_the_known_ones() -> None:
    """The remedy is in the message."""
    with pytest.raises(ConfigError, match=r"unknown backend consul://; known: file, redis"):
        registry.open_backend("consul://h", 5.0)
    with pytest.raises(ConfigError, match=r"unknown backend reds://; did you mean redis://"):
        registry.open_backend("reds://h", 5.0)


def test_unknown_parameter_and_missing_host_are_refused() -> None:
    """A typing mistake does not pass silently."""
    with pytest.raises(ConfigError, match="unknown parameter 'prefx'; did you mean prefix"):
        registry.open_backend("redis://h?prefx=a", 5.0)
    with pytest.raises(ConfigError, match="no host"):
        registry.open_backend("redis://", 5.0)


def test_location_differs_by_database_and_prefix_not_by_password() -> None:
    """A watermark belongs to one key on one server."""
    assert registry.location("redis://a:b@h/1") == registry.location("redis://h/1")
    assert len({registry.location(f"redis://h/{end}") for end in ("1", "2", "1?prefix=x")}) == 3
    ends = ("", "?region=eu-west-1", "?region=us-east-1", "?endpoint=http://h", "?table=other", "?account=123456789012")
    assert len({registry.location(f"dynamodb://t{end}") for end in ends}) == len(ends)
    assert registry.location("dynamodb://t?create=yes") == registry.location("dynamodb://t")


@pytest.mark.parametrize(
    "text",
    [
        *("redis://u:xyzzy/plugh@h", "redis://u:xyzzy?plugh@h", "redis://u:xyzzy&plugh@h", "redis://u:xyzzy@plugh@h"),
        *("redis://:xyzzy/plugh@h:1/2", "redis://:xyzzy/@plugh@h", "redis://:xyzzy?plugh=@h/0", "redis://:1/xyzzy@h"),
        *(
            "redis://u:1?xyzzy",
            "redis://h/0?prefix=a&plugh",
            "redis://u:1?xyzzy&plugh@h",
            "redis://u:1/2?a=xyzzy&b=plugh@h",
            "redis://u:xyzzy&plugh@h?x",
            "redis://:xyzzy",
        ),
        *(
            "redis://u:xyzzy plugh@h",
            "redis://u:xyzzy%plugh@h",
            "redis://u:xyzzy[plugh@h:x",
            "redis://u:[xyzzy]plugh@h",
        ),
        *(
            "redis://u:xyzzy,plugh@h,,",
            "redis://u:xyzzy,plugh",
            "redis://u:xyzzy:plugh@:1",
            "redis://u:xyzzy#plugh@h?a",
        ),
        *(
            "redis://u:xyzzy%FFplugh@h",
            "redis://u:xyzzy\udcffplugh@h",
            "redis+unix://u:xyzzy/plugh@/s",
            "u:xyzzy@plugh",
        ),
        *(
            "memcached://u:xyzzy?plugh@h",
            "zookeeper://u:xyzzy/plugh@h/a",
            "etcd://u:xyzzy:plugh@h",
            "redis:u:xyzzy@plugh",
        ),
    ],
)
def test_a_password_that_was_not_escaped_is_in_no_message(text: str) -> None:
    """Whatever its parts were taken for."""
    shown = ""
    try:
        shown = str(URL(text)) + registry.location(text)
        registry.open_backend(text, 1.0).close()
    except ConfigError as error:
        shown += str(error)
    assert shown
    assert "xyzzy" not in shown
    assert "plugh" not in shown


@pytest.mark.parametrize("character", ["/", "?"])
def test_an_unescaped_separator_in_the_password_is_refused_with_the_remedy(character: str) -> None:
    """Else its first half would be looked up as a host, or its second half be sent as a parameter."""
    with pytest.raises(ConfigError, match=r"write / as %2F, [?] as %3F, @ as %40"):
        URL(f"redis://user:1234{character}5678@host")
    assert URL("redis://user:1%2F2%3F3%404%265@host").password == "1/2?3@4&5"


def test_a_path_of_files_may_have_an_at_sign() -> None:
    """There is no password in it."""
    assert URL("file:///srv/jobs@home").path == "/srv/jobs@home"


@pytest.mark.parametrize("text", ["redis://h/\udcff", "redis://\udce4:a@h", "redis://h?prefix=\udcff", "redis://h/%ff"])
def test_a_url_that_is_not_utf_8_is_refused(text: str) -> None:
    """Bytes that came by the environment, raw or as %XX."""
    with pytest.raises(ConfigError, match=r"%XX|percent") as caught:
        URL(text)
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    ("text", "known", "said"),
    [
        ("etcd://h?ca=/f", ("prefix",), "TLS files go with etcds://"),
        ("postgresql://h/d?ca=/f", ("sslrootcert", "sslcert"), "write sslrootcert="),
        ("mysql://h/d?prefix=x", ("table", "ca"), "keys are kept apart by table="),
        ("redis://h?color=red", ("prefix",), "redis:// knows prefix"),
    ],
)
def test_what_does_the_same_here(text: str, known: tuple[str, ...], said: str) -> None:
    """A parameter of another backend's is answered with the one that does it here."""
    with pytest.raises(ConfigError, match=said):
        URL(text).take_params(known)
