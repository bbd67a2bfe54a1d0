"""The contract of a view store, over every adapter."""

from __future__ import annotations

import random

import pytest

from horae_projections.ports import (
    INFINITY,
    Change,
    Key,
    Listing,
    Mark,
    Range,
    StaleProjector,
    Step,
    ViewUnavailable,
)

TABLE = "s"
HOSTILE = [
    "*",
    "a:b",
    "{x}",
    "a\nb",
    "%s%n",
    "'; DROP",
    "[a-z]?",
    "ключ",
    "🦉",
    "\\",
    "a b",
    "\r\n+OK",
]


def key(id_: str, tenant: str = "t") -> Key:
    return Key(TABLE, tenant, id_)


def row(id_: str, created: int, *, tenant: str = "t", cell: str = "c", **told) -> Change:
    text = told.get("text", "")
    return Change(
        key(id_, tenant),
        told.get("row", id_.encode()),
        text,
        {
            f"created:{cell}": created,
            f"next:{cell}": told.get("next", INFINITY),
            f"name:{cell}": text or id_,
        }
        | dict.fromkeys(told.get("sets", ())),
    )


async def begin(views, *changes: Change, version: str = "v1") -> None:
    await views.apply(version, [Step(None, "p0", ()), Step("p0", "p1", changes)])
    assert await views.publish(version, instead_of=None)


def listing(**changes) -> Listing:
    told = {"order": "created", "groups": [["c"]], "limit": 100} | changes
    return Listing(TABLE, told.pop("tenant", "t"), **told)


async def ids(views, **changes) -> list[str]:
    page = await views.page(listing(**changes))
    assert page.end is not None or page.total >= len(page.rows)
    return [id_ for id_, _ in page.rows]


class TestSteps:
    async def test_a_step_shows_rows_and_position_together(self, views):
        await begin(views, row("a", 1))
        assert await views.position("v1") == "p1"
        assert await views.rows([key("a"), key("b")]) == ("p1", [b"a", None])
        assert await views.load("v1", [key("b"), key("a")]) == [None, b"a"]

    @pytest.mark.parametrize("expected", [None, "p0", "p2", ""])
    async def test_a_step_from_elsewhere_is_refused_and_writes_nothing(self, views, expected):
        await begin(views, row("a", 1))
        with pytest.raises(StaleProjector) as refused:
            await views.apply("v1", [Step(expected, "p9", [row("b", 2)])])
        assert refused.value.current == "p1"
        assert await views.rows([key("b")]) == ("p1", [None])

    async def test_steps_before_a_refused_one_are_done_and_those_behind_it_are_not(self, views):
        await begin(views)
        steps = [Step("p1", "p2", [row("a", 1)]), Step("x", "p3", [row("b", 1)])]
        with pytest.raises(StaleProjector):
            await views.apply("v1", [*steps, Step("p3", "p4", [row("c", 1)])])
        assert await views.rows([key("a"), key("b"), key("c")]) == ("p2", [b"a", None, None])

    async def test_a_step_of_a_version_that_is_gone_is_refused(self, views):
        await begin(views, row("a", 1))
        await views.drop("v1")
        with pytest.raises(StaleProjector) as refused:
            await views.apply("v1", [Step("p1", "p2", ())])
        assert refused.value.current is None

    async def test_a_row_leaves_its_old_places(self, views):
        await begin(views, row("a", 1, sets=["red"]))
        moved = Change(
            key("a"), b"A", "", {"created:d": 1, "blue": None}, {"created:c": 1, "red": None},
        )  # fmt: skip
        await views.apply("v1", [Step("p1", "p2", [moved])])
        assert await ids(views) == []
        assert await ids(views, groups=[["d"]], all_of=["blue"]) == ["a"]
        assert await ids(views, groups=[["c"], ["d"]], all_of=["red"]) == []

    async def test_a_row_moves_within_an_order_that_others_enter_in_the_same_step(self, views):
        await begin(views, row("a", 1, next=5))
        moved = Change(key("a"), b"a", "", {"next:c": 7}, {"next:c": 5})
        steps = [Step("p1", "p2", [row("b", 2, next=6), moved])]
        await views.apply("v1", steps)
        assert await ids(views, order="next") == ["b", "a"]

    async def test_a_deleted_row_is_gone(self, views):
        await begin(views, row("a", 1, sets=["red"]))
        places = {"created:c": 1, "next:c": INFINITY, "name:c": "a", "red": None}
        gone = Change(key("a"), None, "", {}, places)
        await views.apply("v1", [Step("p1", "p2", [gone])])
        assert (await views.rows([key("a")])).rows == [None]
        assert (await views.page(listing())).total == 0

    async def test_a_step_may_be_of_any_size(self, views):
        made = [row(f"{n:05}", n, sets=["red"]) for n in range(8_100)]
        await begin(views, *made)
        assert (await views.page(listing(all_of=["red"]))).total == 8_100
        gone = [Change(each.key, None, "", {}, each.add) for each in made]
        await views.apply("v1", [Step("p1", "p2", gone)])
        assert (await views.page(listing())).total == 0

    async def test_bytes_of_a_row_come_back_as_they_were(self, views):
        stored = bytes(range(256))
        await begin(views, row("a", 1, row=stored, text="näme"))
        assert (await views.rows([key("a")])).rows == [stored]
        assert await views.load("v1", [key("a")]) == [stored]
        assert (await views.page(listing())).rows == [("a", stored)]

    async def test_no_keys_are_no_rows(self, views):
        await begin(views)
        assert await views.rows([]) == ("p1", [])
        assert await views.load("v1", []) == []


class TestVersions:
    async def test_nothing_is_read_before_a_version_is_live(self, views):
        await views.check()
        assert await views.live() is None
        assert await views.position("v1") is None
        await views.apply("v1", [Step(None, "p1", [row("a", 1)])])
        with pytest.raises(ViewUnavailable):
            await views.rows([key("a")])
        with pytest.raises(ViewUnavailable):
            await views.page(listing())

    async def test_a_swap_needs_the_expected_version_and_forgets_the_old_one(self, views):
        await begin(views, row("a", 1))
        await views.apply("v2", [Step(None, "q", [row("b", 1)])])
        assert not await views.publish("v2", instead_of="v0")
        assert await ids(views) == ["a"]
        assert await views.publish("v2", instead_of="v1")
        assert await ids(views) == ["b"]
        assert await views.position("v1") is None
        assert await views.load("v1", [key("a")]) == [None]

    async def test_with_no_live_version_nothing_is_answered(self, views):
        await begin(views, row("a", 1))
        assert await views.publish(None, instead_of="v1")
        with pytest.raises(ViewUnavailable):
            await views.rows([key("a")])


class TestLists:
    async def test_rows_come_in_order_and_in_reverse(self, views):
        await begin(views, row("b", 2), row("c", 1), row("a", 2))
        assert await ids(views) == ["c", "a", "b"]
        assert await ids(views, descending=True) == ["b", "a", "c"]

    async def test_ids_of_equal_keys_are_ordered_by_their_bytes(self, views):
        names = ["a-b", "aa", "a.b", "aB", "a_b", "Z", "a:b", "a", "B1"]
        await begin(views, *(row(name, 1, sets=["all"]) for name in names))
        assert await ids(views) == sorted(names)
        assert await ids(views, all_of=["all"]) == sorted(names)
        assert await ids(views, descending=True, all_of=["all"]) == sorted(names)[::-1]

    async def test_groups_follow_one_another_and_cells_mix(self, views):
        cells = ["x", "y", "z"]
        await begin(views, *(row(f"{index}", index, cell=cells[index % 3]) for index in range(9)))
        assert await ids(views, groups=[cells]) == list("012345678")
        assert await ids(views, groups=[["z", "x"], ["y"]]) == list("023568147")
        assert await ids(views, groups=[["none"], ["y"]]) == list("147")
        assert await ids(views, groups=[[]]) == []

    @pytest.mark.parametrize("descending", [False, True])
    @pytest.mark.parametrize("order", ["created", "next", "name"])
    @pytest.mark.parametrize("conditions", [{}, {"all_of": ["even"]}, {"contains": "1"}])
    async def test_pages_are_the_whole_list_in_parts(self, views, order, descending, conditions):
        rows = [
            row(
                f"r{index:03}", index // 10, cell=f"c{index % 4}", text=f"n{index % 7} {index}",
                next=INFINITY if index % 5 == 0 else index % 11,
                sets=["even"] if index % 2 == 0 else [],
            )
            for index in range(300)
        ]  # fmt: skip
        await begin(views, *rows)
        told = {
            "order": order, "text": order == "name", "descending": descending,
            "groups": [["c3", "c1"], ["c0", "c2"]],
        } | conditions  # fmt: skip
        whole = await ids(views, limit=1000, **told)
        total = (await views.page(listing(**told))).total
        assert len(whole) == len(set(whole)) == total
        found, after = [], None
        while True:
            page = await views.page(listing(limit=17, after=after, **told))
            assert page.total == total
            found += [id_ for id_, _ in page.rows]
            after = page.end
            if after is None:
                break
            assert len(page.rows) == 17
        assert found == whole
        uncounted = await views.page(listing(limit=1000, totals=False, **told))
        assert [id_ for id_, _ in uncounted.rows] == whole

    async def test_a_range_is_inclusive_and_crosses_orders(self, views):
        await begin(views, *(row(f"{n}", n, next=10 - n) for n in range(10)), row("z", 20))
        assert await ids(views, within=[Range("created", 3, 5)]) == ["3", "4", "5"]
        assert await ids(views, within=[Range("next", 3, 5)]) == ["5", "6", "7"]
        both = [Range("created", 6, 9), Range("next", 3, 5)]
        assert await ids(views, within=both) == ["6", "7"]
        assert await ids(views, order="next", within=both, descending=True) == ["6", "7"]
        in_time = await ids(views, order="next", within=[Range("next", 0, 2.0**60)])
        assert in_time == list("9876543210")
        page = await views.page(listing(limit=1, within=both))
        assert page.total == 2

    async def test_sets_are_joined_by_all_and_any(self, views):
        await begin(
            views, row("a", 1, sets=["x"]), row("b", 2, sets=["x", "y"]), row("c", 3, sets=["z"])
        )
        assert await ids(views, all_of=["x"]) == ["a", "b"]
        assert await ids(views, all_of=["x", "y"]) == ["b"]
        assert await ids(views, any_of=["y", "z"]) == ["b", "c"]
        assert await ids(views, any_of=["y", "z"], all_of=["x"]) == ["b"]
        assert await ids(views, any_of=["nothing"]) == []
        assert await ids(views, only=["b", "zz"]) == ["b"]

    async def test_a_search_looks_into_names_only(self, views):
        await begin(views, row("a1", 1, text="nightly report"), row("b1", 2), row("report", 3))
        assert await ids(views, contains="report") == ["a1", "report"]
        assert await ids(views, contains="1") == ["b1"]
        assert await ids(views, contains="%w") == []

    @pytest.mark.parametrize("descending", [False, True])
    async def test_a_name_that_is_another_ones_id_has_its_place(self, views, descending):
        names = [("b", ""), ("a", "b"), ("c", "b"), ("b0", "b"), ("A", "a"), ("a0", "")]
        await begin(views, *(row(id_, 1, text=text, sets=["all"]) for id_, text in names))
        told = {"order": "name", "text": True, "descending": descending}
        wanted = ["A", "a0", "b", "a", "b0", "c"][:: -1 if descending else 1]
        assert await ids(views, **told) == wanted
        assert await ids(views, all_of=["all"], **told) == wanted
        for size in range(1, 6):
            page = await views.page(listing(limit=size, **told))
            rest = await ids(views, after=page.end, **told)
            assert [id_ for id_, _ in page.rows] + rest == wanted

    async def test_a_cursor_holds_when_its_row_is_gone_and_others_come(self, views):
        await begin(views, *(row(f"{n}", n) for n in range(0, 10, 2)))
        page = await views.page(listing(limit=2))
        assert page.end == Mark(0, 2, "2")
        gone = Change(
            key("2"),
            None,
            "",
            {},
            {"created:c": 2, "next:c": INFINITY, "name:c": "2"},
        )
        await views.apply("v1", [Step("p1", "p2", [gone, row("1", 1), row("3", 3)])])
        assert await ids(views, after=page.end) == ["3", "4", "6", "8"]
        assert await ids(views, after=page.end, descending=True) == ["1", "0"]

    async def test_tenants_see_their_own(self, views):
        await begin(
            views,
            row("a", 1, tenant="one", sets=["tag:x"]),
            row("a", 2, tenant="two", sets=["tag:x"], row=b"2"),
            row("b", 3, tenant="one:c", cell="two"),
        )
        assert (await views.rows([key("a", "one"), key("a", "two")])).rows == [b"a", b"2"]
        assert await ids(views, tenant="one", all_of=["tag:x"]) == ["a"]
        assert (await views.page(listing(tenant="two"))).rows == [("a", b"2")]
        assert await ids(views, tenant="one", groups=[["c:two"]]) == []
        assert await ids(views, tenant="three") == []

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_hostile_names_are_only_names(self, views, name: str):
        await begin(
            views, row("a", 1, text=name, sets=[f"tag:{name}"]), row("b", 2, sets=["tag:other"]),
            row("c", 1, tenant=name),
        )  # fmt: skip
        assert await ids(views, all_of=[f"tag:{name}"]) == ["a"]
        assert await ids(views, any_of=[f"tag:{name}", "tag:*"]) == ["a"]
        assert await ids(views, contains=name) == ["a"]
        assert await ids(views, order="name", text=True) in (["a", "b"], ["b", "a"])
        assert await ids(views, tenant=name) == ["c"]

    async def test_large_lists_agree_with_a_plain_search(self, views):
        """Above 2,000 candidates another way is taken than below."""
        chance = random.Random(4)
        told = [
            (f"k{n:05}", n // 7, chance.randrange(50), chance.random() < 0.6, chance.random() < 0.9)
            for n in range(6000)
        ]
        changes = [
            row(id_, created, next=due, cell=f"c{due % 2}", text=f"name {id_[-2:]}",
                sets=["s"] * one + ["r"] * two)
            for id_, created, due, one, two in told
        ]  # fmt: skip
        await begin(views, *changes[:3000])
        await views.apply("v1", [Step("p1", "p2", changes[3000:])])
        cells = {"groups": [["c0", "c1"]], "limit": 1000}
        cases = [
            ({"all_of": ["s"]}, lambda each: each[3]),
            ({"all_of": ["s", "r"]}, lambda each: each[3] and each[4]),
            ({"any_of": ["s", "r"]}, lambda each: each[3] or each[4]),
            ({"within": [Range("next", 5, 40)]}, lambda each: 5 <= each[2] <= 40),
            (
                {"within": [Range("next", 5, 40), Range("created", 100, 700)], "all_of": ["r"]},
                lambda each: 5 <= each[2] <= 40 and 100 <= each[1] <= 700 and each[4],
            ),
            (
                {"within": [Range("created", 100, 700)], "all_of": ["r"]},
                lambda each: 100 <= each[1] <= 700 and each[4],
            ),
            ({"contains": "name"}, lambda each: True),
            ({"contains": "name", "all_of": ["s"]}, lambda each: each[3]),
        ]
        for conditions, holds in cases:
            wanted = [each[0] for each in sorted(told, key=lambda e: (e[1], e[0])) if holds(each)]
            page = await views.page(listing(**cells, **conditions))
            assert [id_ for id_, _ in page.rows] == wanted[:1000], conditions
            assert page.total == len(wanted), conditions
            named = await views.page(
                listing(**cells, **conditions, order="name", text=True, descending=True)
            )
            by_name = sorted(wanted, key=lambda id_: (id_[-2:], id_), reverse=True)
            assert [id_ for id_, _ in named.rows] == by_name[:1000], conditions
            assert named.total == len(wanted), conditions


async def test_a_long_walk_is_taken_in_parts(valkey_url, monkeypatch):
    from horae_infrastructure.views import redis as adapter

    monkeypatch.setattr(adapter, "BUDGET", 100)
    views = adapter.RedisViews(valkey_url)
    rows = [row(f"k{n:05}", n, sets=["most"] if n >= 900 else []) for n in range(3500)]
    await begin(views, *rows[:2000])
    await views.apply("v1", [Step("p1", "p2", rows[2000:])])
    page = await views.page(listing(all_of=["most"], limit=50))
    assert [id_ for id_, _ in page.rows] == [f"k{n:05}" for n in range(900, 950)]
    assert page.total == 2600
    page = await views.page(listing(all_of=["most"], limit=50, after=page.end))
    assert page.rows[0][0] == "k00950"
    last = await views.page(listing(all_of=["most"], limit=50, after=Mark(0, 3460, "k03460")))
    assert (len(last.rows), last.end) == (39, None)
    await views.close()


async def test_a_server_that_evicts_is_refused(valkey_url):
    import redis

    from horae_infrastructure.views.redis import RedisViews
    from horae_projections.ports import ViewMisconfigured

    views = RedisViews(valkey_url)
    with redis.Redis.from_url(valkey_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ViewMisconfigured, match="allkeys-lru"):
                await views.check()
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    await views.close()


async def test_a_server_that_is_not_there_is_unavailable(tmp_path):
    from horae_infrastructure.views.redis import RedisViews

    views = RedisViews(f"unix://{tmp_path}/none.sock")
    for call in (views.check(), views.live(), views.rows([]), views.page(listing())):
        with pytest.raises(ViewUnavailable):
            await call
    await views.close()
