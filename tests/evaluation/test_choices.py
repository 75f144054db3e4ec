"""What cannot be asked of an evaluation is refused by the library too, before anything is loaded."""

import pytest

import residual
from residual.errors import UsageError
from residual.evaluation.together import evaluate_together, from_files

WRONG = {
    "protocol": ({"protocol": "10crop"}, "protocol is '10crop'.*did you mean 10-crop"),
    "another protocol": ({"protocol": "nonsense"}, "choose one of 1-crop, 10-crop, multi-scale"),
    "average": ({"average": "logitz"}, "average is 'logitz'.*did you mean logits"),
    "split": ({"split": "testt"}, "split is 'testt'.*did you mean test"),
    "two": ({"split": "x", "average": "y"}, "average is 'y'.*split is 'x'"),
}


@pytest.mark.parametrize(("asked", "words"), WRONG.values(), ids=WRONG)
def test_a_wrong_name_is_answered_with_the_nearest(asked, words):
    with pytest.raises(UsageError, match=words):
        residual.evaluate("no such run", **asked)
    with pytest.raises(UsageError, match=words):
        evaluate_together(["no such run"], **asked)


def test_so_is_the_average_of_files():
    with pytest.raises(UsageError, match="did you mean logits"):
        from_files(["no such file"], "logit")  # type: ignore[arg-type]
