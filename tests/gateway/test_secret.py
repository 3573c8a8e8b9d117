"""What a secret looks like, who can make it, and what can be told of it without asking anybody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.secret import FORM, Pepper, Wish, key_of

PEPPER = Pepper(b"p" * 32)
WISH = Wish("default", "alice", "POST /v1/keys", "8e03978e-40d5-43dd-bc93-6894a57f9324")
texts = st.text(max_size=20)


def made(pepper: Pepper = PEPPER, wish: Wish = WISH) -> str:
    return pepper.secret(pepper.key(wish), wish)


def test_a_secret_says_which_key_it_is_of() -> None:
    secret = made()
    assert FORM.fullmatch(secret)
    assert len(secret) == 61
    assert key_of(secret) == PEPPER.key(WISH)


@given(st.integers(0, 60), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567_"))
def test_a_character_that_was_mistyped_is_noticed(place: int, character: str) -> None:
    secret = made()
    wrong = secret[:place] + character + secret[place + 1 :]
    assert key_of(wrong) == (None if wrong != secret else key_of(secret))


@pytest.mark.parametrize("text", ["", "soma_", "soma_abc_def", made()[:-1], made() + "a", made() + "\n", made().upper(), " " + made()])
def test_what_is_not_written_as_a_secret_is_none(text: str) -> None:
    assert key_of(text) is None


@given(st.builds(Wish, texts, texts, texts, texts), st.builds(Wish, texts, texts, texts, texts))
def test_the_same_wish_makes_the_same_secret_and_any_other_wish_another(one: Wish, other: Wish) -> None:
    assert (made(wish=one) == made(wish=other)) == (one == other)


def test_another_pepper_makes_and_keeps_something_else() -> None:
    other = Pepper(b"q" * 32)
    assert made() != made(other)
    assert PEPPER.hash(made()) != other.hash(made())
    assert PEPPER.name != other.name


def test_nothing_that_is_kept_holds_the_secret_or_the_pepper() -> None:
    proof = made().split("_")[2]
    assert proof not in repr(PEPPER) + PEPPER.name + PEPPER.hash(made()).hex()
    assert "pppp" not in repr(PEPPER) + PEPPER.name
