"""Instructions obeyed: a prompt by all of its rules, a rule by itself, groups by name."""

from sparring.evaluation.check_rates import Checked, check_rates

ONE, LOW = {"rule": "one_word"}, {"rule": "lowercase"}


def rows() -> list[Checked]:
    return [
        Checked([ONE], "seen", ["a ship", "ship"], ["ship", "Ship"]),
        Checked([ONE, LOW], "both", ["Ship", "a ship"], ["ship", "Ship"]),
        Checked([], "seen", ["anything"], ["else"]),
    ]


def test_a_prompt_passes_when_all_rules_hold_and_a_rule_counts_by_itself() -> None:
    rates = check_rates(rows())
    assert rates is not None
    assert rates["prompts"] == 2
    assert (rates["start"].value, rates["final"].value, rates["difference"].value) == (0.25, 0.75, 0.5)
    assert list(rates["by_rule"]) == ["one_word", "lowercase"]
    one = rates["by_rule"]["one_word"]
    assert (one["start"].value, one["final"].value, one["prompts"]) == (0.5, 1.0, 2)
    assert rates["by_rule"]["lowercase"]["final"].value == 0.5
    assert {name: group["difference"].value for name, group in rates["by_group"].items()} == {"both": 0.5, "seen": 0.5}


def test_a_column_of_many_values_names_no_groups() -> None:
    many = [Checked([ONE], str(number), ["a b"], ["a"]) for number in range(13)]
    rates = check_rates(many)
    assert rates is not None
    assert rates["by_group"] == {}
    assert check_rates([Checked([], "x", ["a"], ["b"])]) is None


def test_bounds_of_either_direction_are_kinds_of_their_own() -> None:
    rule = {"rule": "length_constraints:number_words", "num_words": 2}
    rows = [Checked([{**rule, "relation": way}], None, ["a b"], ["a"]) for way in ("less than", "at least")]
    rates = check_rates(rows)
    assert rates is not None
    assert {name: (one["start"].value, one["final"].value) for name, one in rates["by_rule"].items()} == {
        "length_constraints:number_words, at least": (1.0, 0.0),
        "length_constraints:number_words, less than": (0.0, 1.0),
    }
