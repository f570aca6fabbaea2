"""The text that nft is fed, and what its listing means: no engine, no kernel."""

from __future__ import annotations

import json

import pytest

from chaos.core.errors import BadInput
from chaos.environments.base import DropRule
from chaos.environments.docker.attach import nft

TABLE = nft.table_of("f1")


def listing(*entries: dict[str, object]) -> str:
    return json.dumps({"nftables": [{"metainfo": {"version": "1"}}, *entries]})


def rule(comment: str, set_name: str) -> dict[str, object]:
    expression = [
        {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": f"@{set_name}"}},
        {"counter": {"packets": 3, "bytes": 9}},
        {"drop": None},
    ]
    return {"rule": {"family": "inet", "table": TABLE, "chain": "input", "handle": 4, "comment": comment, "expr": expression}}


def timed(value: object, expires: int) -> dict[str, object]:
    return {"elem": {"val": value, "timeout": 10, "expires": expires}}


def own_set(name: str, *members: dict[str, object]) -> dict[str, object]:
    return {"set": {"family": "inet", "name": name, "table": TABLE, "type": "ipv4_addr", "handle": 1, "elem": list(members)}}


OWN_TABLE = {"table": {"family": "inet", "name": TABLE, "handle": 2}}


def test_everybody_is_both_families_and_never_loopback() -> None:
    """A rule without peers drops IPv4 and IPv6 on every interface but lo."""
    script = nft.install_script("f1", [DropRule(inbound=True)], 2.5)
    assert "elements = { ipv4 timeout 2s500ms, ipv6 timeout 2s500ms }" in script
    assert f'iifname != "lo" meta nfproto @s0e counter drop comment "{nft.COMMENT}f1"' in script


def test_overlapping_peers_are_one_set_without_overlap() -> None:
    """The kernel refuses intervals that overlap, so that networks and addresses within them are put together first."""
    script = nft.install_script("f1", [DropRule(inbound=False, peers=("10.0.0.0/24", "10.0.0.7", "10.0.1.0/24", "fd00::1"), port=80)], 10)
    assert "elements = { 10.0.0.0/23 timeout 10s0ms }" in script and "elements = { fd00::1 timeout 10s0ms }" in script
    assert "ip daddr @s04 tcp sport 80 counter drop" in script and "ip6 daddr @s06 tcp sport 80 counter drop" in script


def test_a_share_is_drawn_at_random() -> None:
    """A smaller share than one becomes a random number's condition behind the match."""
    assert "@s0e numgen random mod 10000 < 2500 counter drop" in nft.install_script("f1", [DropRule(inbound=True, share=0.25)], 10)


@pytest.mark.parametrize(
    "wrong", [DropRule(True, ("nonsense",)), DropRule(True, (), 0), DropRule(True, (), 70000), DropRule(True, share=0.0)], ids=str
)
def test_what_nft_would_not_take_is_refused_before(wrong: DropRule) -> None:
    """Names, impossible ports and shares are a person's mistake."""
    with pytest.raises(BadInput):
        nft.install_script("f1", [wrong], 10)


@pytest.mark.parametrize("tag", ["", "-x", "a b", "a;b", "x" * 101])
def test_a_tag_that_could_mean_something_to_nft_is_refused(tag: str) -> None:
    """Only letters, digits and a few marks reach the script."""
    with pytest.raises(BadInput):
        nft.remove_script(tag)


def test_the_listing_tells_live_rules_and_the_time_left() -> None:
    """Rules whose set has expired are held, but count no more."""
    found = nft.parse(
        listing(
            OWN_TABLE,
            own_set("s04", timed({"prefix": {"addr": "10.0.0.0", "len": 24}}, 7), timed("10.0.2.1", 5)),
            own_set("s14"),
            rule(f"{nft.COMMENT}f1", "s04"),
            rule(f"{nft.COMMENT}f1", "s14"),
        )
    )
    assert found.foreign == () and list(found.held) == ["f1"]
    assert found.held["f1"] == nft.Held("f1", 1, {"s04": ("10.0.0.0/24", "10.0.2.1")}, 5.0, 6)


@pytest.mark.parametrize("comment", ["", "somebody's", f"{nft.COMMENT}f2"])
def test_a_table_of_our_name_without_our_comment_is_foreign(comment: str) -> None:
    """Neither held by us nor ours to remove."""
    found = nft.parse(listing(OWN_TABLE, own_set("s04", timed("10.0.2.1", 5)), rule(comment, "s04")))
    assert found.held == {} and found.foreign == (TABLE,)


def test_handles_times_and_the_resolvers_ports_do_not_make_a_difference() -> None:
    """Two listings of the same rules compare equal though the kernel numbered them anew and the engine chose another port."""

    def one(handle: int, port: int) -> str:
        match = {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "sport"}}, "right": port}}
        address = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "127.0.0.11"}}
        return listing(
            {"rule": {"table": "nat", "chain": "OUT", "handle": handle, "expr": [address, match, {"counter": {"packets": handle}}]}}
        )

    assert nft.parse(one(3, 4000)).lines == nft.parse(one(9, 5000)).lines
