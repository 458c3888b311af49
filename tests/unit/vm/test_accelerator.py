import pytest

from vm.accelerator import Attempt, decide, kvm_limit

TCG = Attempt("tcg", "max", 2.0, "init after 2.00 s")


def test_the_faster_wins() -> None:
    verdict = decide([TCG, Attempt("kvm", "host", 0.2, "init after 0.20 s")])
    assert (verdict.accel, verdict.cpu, verdict.tcg_s, verdict.kvm_s) == ("kvm", "host", 2.0, 0.2)


def test_kvm_that_crawls_or_fails_loses() -> None:
    verdict = decide([TCG, Attempt("kvm", "host", None, "no init within 4.0 s")])
    assert (verdict.accel, verdict.kvm_s) == ("tcg", None)
    assert "no init within 4.0 s" in verdict.reason


def test_slow_kvm_that_arrives_loses_too() -> None:
    assert decide([TCG, Attempt("kvm", "host", 3.5, "")]).accel == "tcg"


def test_the_second_cpu_model_is_taken_when_the_first_fails() -> None:
    verdict = decide([TCG, Attempt("kvm", "host", None, "x"), Attempt("kvm", "other", 0.3, "")])
    assert (verdict.accel, verdict.cpu) == ("kvm", "other")


def test_without_tcg_there_is_no_verdict() -> None:
    with pytest.raises(ValueError, match="TCG"):
        decide([Attempt("kvm", "host", 0.2, "")])


def test_limit() -> None:
    assert kvm_limit(2.0) == 4.0
