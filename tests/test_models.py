"""The shipped models of the literature: as many parameters and multiply-accumulates as published."""

from __future__ import annotations

import pytest

from accelsim.program import model_size
from accelsim.workload import load_workload

PARAMETERS = {
    # torchvision's table of weights (docs.pytorch.org/vision/stable/models.html)
    "alexnet_imagenet": 61_100_840,
    "resnet18_imagenet": 11_689_512,
    "resnet50_imagenet": 25_557_032,
    "mobilenetv2_imagenet": 3_504_872,
    # the same table less what the auxiliary classifier holds: two convolutions with batch norms, and a linear
    "inception_v3_imagenet": 27_161_264
    - (768 * 128 + 2 * 128 + 5 * 5 * 128 * 768 + 2 * 768 + 768 * 1000 + 1000),
    # keras.applications: 4,253,864 with 21,888 untrained statistics of batch norms
    "mobilenetv1_imagenet": 4_231_976,
    # the CIFAR forms of github.com/kuangliu/pytorch-cifar, as counted by those who train them: the first
    # three by NNI's pruning benchmark and marc.ecs.soton.ac.uk/pytorch-models, GoogLeNet by
    # blog.51cto.com/u_15786578/5667479, MobileNetV2 and VGG16 by the table of Classification-cifar10-pytorch
    "resnet18_cifar10": 11_173_962,
    "resnet50_cifar10": 23_520_842,
    "resnet101_cifar10": 42_512_970,
    "vgg16_cifar10": 14_728_266,
    "googlenet_cifar10": 6_166_250,
    "mobilenetv2_cifar10": 2_296_922,
    # GPT-2 small as released (huggingface.co/openai-community/gpt2: 124 million, 124,439,808 counted)
    "gpt2_small": 124_439_808,
}

GIGA_MACS = {
    # torchvision's table of weights, "GFLOPS" column, which counts multiply-accumulates
    "alexnet_imagenet": 0.71,
    "resnet18_imagenet": 1.81,
    "resnet50_imagenet": 4.09,
    "mobilenetv2_imagenet": 0.30,
    "inception_v3_imagenet": 5.71,
    # Howard et al., 2017, table 1 and 8: 569 million
    "mobilenetv1_imagenet": 0.57,
    # model_zoo/README.md of github.com/da2so/DA2Lite, the same CIFAR forms
    "vgg16_cifar10": 0.31,
    "resnet18_cifar10": 0.56,
    "resnet50_cifar10": 1.30,
    "mobilenetv2_cifar10": 0.09,
}


def parameters_of(name: str) -> int:
    """Trained parameters of a shipped workload."""
    return model_size(load_workload(name)).parameters


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameters_are_the_published_ones(name: str, parameters: int) -> None:
    """Every trained number is there, to the last one."""
    assert parameters_of(name) == parameters


@pytest.mark.parametrize(("name", "giga"), GIGA_MACS.items())
def test_macs_are_the_published_ones(name: str, giga: float) -> None:
    """The forward pass of one sample costs what is published, to the digits that are given."""
    assert round(model_size(load_workload(name)).macs / 1e9, 2) == giga


def test_densenet121() -> None:
    """6.96 million parameters and 0.90 GMACs with batch norms (DA2Lite's table, 1 % for those)."""
    size = model_size(load_workload("densenet121_cifar10"))
    assert round(size.parameters / 1e6, 2) == 6.96
    assert size.macs / 1e9 == pytest.approx(0.90, rel=0.015)


def test_bert_base() -> None:
    """The published masked language model less what the workload's comment leaves out.

    huggingface.co BertForMaskedLM of bert-base-uncased: 109,514,298 parameters. 22.5 GFLOPs for 128
    pieces without the scores (Sun et al., MobileBERT, ACL 2020, table 4), two to a multiply-accumulate.
    """
    size = model_size(load_workload("bert_base"))
    segments, positions = 2 * 768, (512 - 128) * 768
    assert size.parameters == 109_514_298 - segments - positions
    scores = 128 * 768 * (30_522 + 768)
    assert 2 * (size.macs - scores) / 1e9 == pytest.approx(22.5, rel=0.01)


def test_gpt2_small_macs() -> None:
    """Matrices once a token (Kaplan et al., arXiv:2001.08361, table 1), scores and mixing once a pair."""
    matrices, width, length = 12 * 12 * 768**2 + 768 * 50_257, 768, 1024
    assert model_size(load_workload("gpt2_small")).macs == length * matrices + 12 * 2 * length**2 * width


def test_transformer_base() -> None:
    """65 million (Vaswani et al., NeurIPS 2017, table 3) to 4 %: "about 37,000" pieces are the rest.

    One table serves source, target and output, as section 3.4 of the paper has it.
    """
    ours = parameters_of("transformer_base_wmt")
    attention, inner, norm = 4 * 512**2, 2 * 512 * 2048 + 2048 + 512, 2 * 512
    encoder, decoder = attention + inner + 2 * norm, 2 * attention + inner + 3 * norm
    assert ours == 37_000 * 512 + 6 * (encoder + decoder)
    assert ours == pytest.approx(65e6, rel=0.04)


def test_lstm_ptb() -> None:
    """20 million (Zaremba's medium model in the tables of Merity et al., ICLR 2017), one bias to a gate."""
    size = model_size(load_workload("lstm_ptb"))
    assert size.parameters == 10_000 * 650 + 2 * 4 * 650 * (650 + 650 + 1) + 650 * 10_000 + 10_000
    assert round(size.parameters / 1e6) == 20
    assert size.macs == 35 * (2 * 4 * 650 * 1300 + 650 * 10_000)


def test_bilstm_swb300() -> None:
    """Gates of 512 units a direction on 260 and then 1024 features, a bottleneck of 256, 32,000 states."""
    gates = [2 * 4 * 512 * (inputs + 512) for inputs in (260, 1024, 1024, 1024)]
    biases = 4 * 2 * 4 * 512 + 256 + 32_000
    size = model_size(load_workload("bilstm_swb300"))
    assert size.parameters == sum(gates) + 1024 * 256 + 256 * 32_000 + biases
    assert size.macs == 21 * (size.parameters - biases)
