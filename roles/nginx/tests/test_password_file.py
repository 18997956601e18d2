from __future__ import annotations

from password_file import content, kept


def test_a_password_that_is_the_same_keeps_its_hash_and_others_get_salts_of_their_own() -> None:
    users = {"ada": "a pass:word$", "bob": "a pass:word$", "cem": "Ünïcode"}
    first = content("", users)
    assert first == content(first, users)
    hashes = [line.partition(":")[2] for line in first.splitlines()]
    assert len(set(hashes)) == 3 and all(len(each.split("$")[2]) == 16 for each in hashes)
    second = content(first, {**users, "bob": "another"})
    assert [one == other for one, other in zip(first.splitlines(), second.splitlines(), strict=True)] == [True, False, True]
    assert content(first, {"cem": "Ünïcode"}).startswith("cem:$6$")


def test_only_the_users_own_line_with_the_right_password_stays() -> None:
    (line,) = content("", {"ada": "secret"}).splitlines()
    assert kept(line, "ada", "secret")
    assert not kept(line, "ada", "Secret") and not kept(line, "bob", "secret") and not kept("ada:secret", "ada", "secret")
