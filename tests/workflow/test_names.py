"""The short names: what they mean in many workflows, judged by hand, and the rules that each of them follows."""

from __future__ import annotations

from typing import Any

import pytest

from comfyreport.errors import WorkflowError
from comfyreport.workflow.files import from_mapping, load
from comfyreport.workflow.graph import Target
from comfyreport.workflow.names import NAMES, changes, find
from tests.workflow.names_table import EXPECTED, GRAPHS, rows


def node(class_type: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def pipeline(**nodes: dict[str, Any]) -> dict[str, Any]:
    """A txt2img workflow, with other nodes in the place of those of the same name."""
    return {
        "model": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "pos": node("CLIPTextEncode", text="a cat", clip=["model", 1]),
        "neg": node("CLIPTextEncode", text="", clip=["model", 1]),
        "latent": node("EmptyLatentImage", width=512, height=768, batch_size=1),
        "s": ksampler(),
        "decode": node("VAEDecode", samples=["s", 0], vae=["model", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="x"),
        **nodes,
    }


def ksampler(**inputs: Any) -> dict[str, Any]:
    usual = {"model": ["model", 0], "positive": ["pos", 0], "negative": ["neg", 0], "latent_image": ["latent", 0]}
    return node("KSampler", **{"seed": 1, "steps": 20, "cfg": 7, **usual, **inputs})


def places(graph: dict[str, Any], name: str) -> set[str]:
    return {f"{target.node}.{target.name}" for target in find(from_mapping(graph).graph, name).targets}


def refused(graph: dict[str, Any], name: str) -> str:
    with pytest.raises(WorkflowError) as caught:
        changes(from_mapping(graph).graph, name, (1, 1) if name == "size" else 1)
    return caught.value.message


def test_the_table_that_was_judged_by_hand() -> None:
    table = list(rows())
    assert len(EXPECTED) >= 60
    assert not [row for row in table if row.result == "wrong"]
    for name in NAMES:
        of_name = [row.result for row in table if row.name == name]
        assert of_name.count("right") >= 0.95 * len(of_name)


def test_candidates_are_those_that_were_judged() -> None:
    for graph_name, names in EXPECTED.items():
        graph = load(GRAPHS / f"{graph_name}.json").graph
        for name in NAMES:
            judged = names.get(name)
            if isinstance(judged, dict):
                candidates = find(graph, name).candidates
                assert {f"{each.node}.{each.name}" for each in candidates} == set(judged["ambiguous"]), graph_name


def test_what_is_set_is_what_is_found_and_nothing_else() -> None:
    values: dict[str, Any] = {"seed": 7, "steps": 8, "size": (640, 320), "batch": 3}
    for graph_name, names in EXPECTED.items():
        graph = load(GRAPHS / f"{graph_name}.json").graph
        for name in NAMES:
            if isinstance(names.get(name), list) and find(graph, name).targets:
                changed = changes(graph, name, values.get(name, "text"))
                moved = set(names.get("split", ())) if name == "steps" else set()
                touched = {f"{target.node}.{target.name}" for target in changed}
                assert touched >= set(names[name]) | moved
                assert {each for each in touched - set(names[name]) - moved if not each.endswith("at_step")} == set()


def test_a_plain_workflow() -> None:
    graph = pipeline()
    assert places(graph, "prompt") == {"pos.text"}
    assert places(graph, "negative") == {"neg.text"}, "a blank one may be set"
    assert places(graph, "seed") == {"s.seed"}
    assert places(graph, "model") == {"model.ckpt_name"}
    size = changes(from_mapping(graph).graph, "size", (640, 480))
    assert size == {Target("latent", "width"): 640, Target("latent", "height"): 480}


def test_what_reaches_no_output_is_not_meant() -> None:
    other = {"other": node("EmptyLatentImage", width=64, height=64, batch_size=9), "lone": ksampler(seed=9)}
    graph = pipeline(**other)
    assert places(graph, "size") == {"latent.width", "latent.height"}
    assert places(graph, "seed") == {"s.seed"}


@pytest.mark.parametrize("saved", [True, False])
def test_a_preprocessor_with_a_sampler_of_its_own_is_not_meant(saved: bool) -> None:
    depth = {
        "unet": node("UNETLoader", unet_name="lotus.safetensors"),
        "lotus": node("LotusConditioning"),
        "d": ksampler(model=["unet", 0], positive=["lotus", 0], negative=["lotus", 0], seed=5, steps=1),
        "map": node("VAEDecode", samples=["d", 0]),
        "control": node(
            "ControlNetApplyAdvanced", positive=["pos", 0], negative=["neg", 0], image=["map", 0], control_net=["c", 0]
        ),
        "look": node("PreviewImage", images=["map", 0]),
    }
    graph = pipeline(**depth, s=ksampler(positive=["control", 0], negative=["control", 1]))
    if not saved:
        graph["save"] = node("PreviewImage", images=["decode", 0])
        del graph["look"]
    for name, expected in {"seed": "s.seed", "steps": "s.steps", "model": "model.ckpt_name"}.items():
        assert places(graph, name) == {expected}
    assert places(graph, "prompt") == {"pos.text"}
    assert places(graph, "negative") == {"neg.text"}


def test_all_seeds_of_two_passes_are_set_and_other_steps_are_asked_for() -> None:
    second = ksampler(latent_image=["s", 0], seed=2, steps=10, denoise=0.5)
    graph = pipeline(t=second, decode=node("VAEDecode", samples=["t", 0]))
    assert places(graph, "seed") == {"s.seed", "t.seed"}
    message = refused(graph, "steps")
    assert 's.steps (KSampler "KSampler"): 20' in message
    assert 't.steps (KSampler "KSampler"): 10' in message
    graph["t"]["inputs"]["steps"] = 20
    assert places(graph, "steps") == {"s.steps", "t.steps"}


@pytest.mark.parametrize(("steps", "boundary"), [(40, 16), (10, 4), (2, 1), (20, 8)])
def test_the_step_between_two_halves_moves_in_proportion(steps: int, boundary: int) -> None:
    first = {**ksampler(start_at_step=0, end_at_step=8), "class_type": "KSamplerAdvanced"}
    second = {**ksampler(latent_image=["s", 0], start_at_step=8, end_at_step=10000), "class_type": "KSamplerAdvanced"}
    graph = pipeline(s=first, t=second, decode=node("VAEDecode", samples=["t", 0]))
    changed = changes(from_mapping(graph).graph, "steps", steps)
    assert changed == {
        Target("s", "steps"): steps,
        Target("t", "steps"): steps,
        Target("s", "end_at_step"): boundary,
        Target("t", "start_at_step"): boundary,
    }


def test_sigmas_that_are_split() -> None:
    graph = pipeline(
        s=node(
            "SamplerCustomAdvanced", guider=["g", 0], noise=["n", 0], sigmas=["split", 0], latent_image=["latent", 0]
        ),
        g=node("BasicGuider", conditioning=["pos", 0], model=["model", 0]),
        n=node("RandomNoise", noise_seed=3),
        split=node("SplitSigmas", sigmas=["plan", 0], step=5),
        plan=node("BasicScheduler", model=["model", 0], steps=20, denoise=1),
    )
    assert changes(from_mapping(graph).graph, "steps", 40) == {Target("plan", "steps"): 40, Target("split", "step"): 10}
    assert places(graph, "seed") == {"n.noise_seed"}
    assert "no place" in refused(graph, "negative")


def test_linked_numbers_are_set_at_their_primitive() -> None:
    graph = pipeline(
        s=ksampler(seed=["number", 0], steps=["way", 0]),
        number=node("PrimitiveInt", value=5),
        way=node("Reroute", **{"": ["more", 0]}),
        more=node("INTConstant", value=20),
        latent=node("EmptyLatentImage", width=["sizes", 0], height=["sizes", 1], batch_size=["math", 0]),
        sizes=node("CR SDXL Aspect Ratio", width=1024, height=1024),
        math=node("SimpleMath", a=["one", 0], value=2),
        one=node("PrimitiveInt", value=1),
    )
    assert places(graph, "seed") == {"number.value"}
    assert places(graph, "steps") == {"more.value"}
    assert places(graph, "size") == {"sizes.width", "sizes.height"}
    assert "no place" in refused(graph, "batch"), "it is computed"


def test_a_picture_gives_the_size_but_a_resize_on_its_way_takes_it() -> None:
    graph = pipeline(
        latent=node("VAEEncode", pixels=["load", 0], vae=["model", 2]), load=node("LoadImage", image="a.png")
    )
    assert "no place" in refused(graph, "size")
    graph["latent"]["inputs"]["pixels"] = ["scale", 0]
    graph["scale"] = node("ImageScale", image=["load", 0], width=512, height=512)
    assert places(graph, "size") == {"scale.width", "scale.height"}
    graph["repeat"] = node("RepeatLatentBatch", samples=["latent", 0], amount=2)
    graph["s"] = ksampler(latent_image=["repeat", 0])
    assert places(graph, "batch") == {"repeat.amount"}


def test_models_through_loras_and_patches() -> None:
    graph = pipeline(
        s=ksampler(model=["patch", 0]),
        patch=node("ModelSamplingSD3", model=["lora", 0], shift=3),
        lora=node("LoraLoader", model=["unet", 0], clip=["model", 1], lora_name="l.safetensors"),
        unet=node("UnetLoaderGGUF", unet_name="u.gguf"),
    )
    assert places(graph, "model") == {"unet.unet_name"}
    graph["patch"] = node("ModelMergeSimple", model1=["lora", 0], model2=["model", 0], ratio=0.5)
    assert "unet.unet_name" in refused(graph, "model")
    odd = node("MyLoader", which="b.safetensors", vae="v.safetensors")
    assert places(pipeline(s=ksampler(model=["odd", 0]), odd=odd), "model") == {"odd.which"}


def test_one_text_for_both_conditionings_is_the_prompt() -> None:
    graph = pipeline(s=ksampler(negative=["pos", 0]))
    assert places(graph, "prompt") == {"pos.text"}
    assert "no place" in refused(graph, "negative")
    zero = node("ConditioningZeroOut", conditioning=["pos", 0])
    assert "no place" in refused(pipeline(s=ksampler(negative=["zero", 0]), zero=zero), "negative")


def test_both_texts_in_one_encoder() -> None:
    both = node("WanVideoTextEncode", positive_prompt="a", negative_prompt="b")
    sampler = node("WanVideoSampler", model=["model", 0], text_embeds=["both", 0], seed=1, steps=4)
    graph = pipeline(both=both, s=sampler)
    assert (places(graph, "prompt"), places(graph, "negative")) == ({"both.positive_prompt"}, {"both.negative_prompt"})
    pipe = node("ToBasicPipe", positive=["pos", 0], negative=["neg", 0], model=["model", 0])
    graph = pipeline(pipe=pipe, s=node("ImpactKSamplerBasicPipe", basic_pipe=["pipe", 0], seed=1, steps=4))
    assert (places(graph, "prompt"), places(graph, "negative")) == ({"pos.text"}, {"neg.text"})


def test_partner_nodes_make_the_picture_themselves() -> None:
    partner = node(
        "WanTextToImageApi", prompt="a", negative_prompt="", seed=4, width=1024, height=1024, model="wan2.5", n=2
    )
    graph = {"p": partner, "save": node("SaveImage", images=["p", 0], filename_prefix="x")}
    expected = {
        "prompt": {"p.prompt"},
        "negative": {"p.negative_prompt"},
        "seed": {"p.seed"},
        "size": {"p.width", "p.height"},
        "batch": {"p.n"},
        "model": {"p.model"},
        "steps": set(),
    }
    assert {name: places(graph, name) for name in NAMES} == expected


def test_a_node_that_gives_a_model_and_both_conditionings() -> None:
    patch = node("ApplyInstantID", model=["model", 0], positive=["pos", 0], negative=["neg", 0], image=["i", 0])
    graph = pipeline(p=patch, s=ksampler(model=["p", 0], positive=["p", 1], negative=["p", 2]))
    assert (places(graph, "prompt"), places(graph, "negative")) == ({"pos.text"}, {"neg.text"})
    context = node("Context (rgthree)", model=["model", 0], positive=["pos", 0], negative=["neg", 0])
    graph = pipeline(c=context, s=ksampler(model=["c", 1], positive=["c", 4], negative=["c", 5]))
    assert (places(graph, "prompt"), places(graph, "negative")) == ({"pos.text"}, {"neg.text"})


def test_a_filter_with_a_seed_is_not_meant_where_something_samples() -> None:
    noise = node("ShufflePreprocessor", image=["load", 0], seed=5)
    saved = {"noise": noise, "load": node("LoadImage", image="a.png"), "save": node("SaveImage", images=["noise", 0])}
    assert places(pipeline(**saved, look=node("PreviewImage", images=["decode", 0])), "seed") == {"s.seed"}
    unknown = {"noise": noise, "look": node("PreviewImage", images=["noise", 0])}
    assert places(pipeline(**unknown, save=node("ImageToS3", images=["decode", 0])), "seed") == {"s.seed"}
    rewriter = {"r": node("PromptRewriter", text=["t", 0], seed=9), "t": node("PrimitiveString", value="a cat")}
    graph = pipeline(**rewriter, pos=node("CLIPTextEncode", text=["r", 0], clip=["model", 1]))
    assert places(graph, "seed") == {"s.seed"}
    assert places({"noise": noise, "save": node("SaveImage", images=["noise", 0])}, "seed") == {"noise.seed"}


def test_one_number_for_several_inputs_is_refused() -> None:
    one = {"one": node("PrimitiveInt", value=20)}
    square = pipeline(**one, latent=node("EmptyLatentImage", width=["one", 0], height=["one", 0], batch_size=1))
    assert changes(square, "size", (640, 640)) == {Target("one", "value"): 640}
    with pytest.raises(WorkflowError, match="several inputs"):
        changes(square, "size", (640, 480))
    assert "several inputs" in refused(pipeline(**one, s=ksampler(seed=["one", 0], steps=["one", 0])), "seed")
    way = node("Reroute", **{"": ["one", 0]})
    assert "several inputs" in refused(pipeline(**one, way=way, s=ksampler(seed=["way", 0], steps=["one", 0])), "steps")


def test_what_is_computed_is_refused() -> None:
    graph = pipeline(
        s=ksampler(seed=["sum", 0]),
        sum=node("MathInt", a=["one", 0], b=100, operation="add"),
        one=node("PrimitiveInt", value=20),
    )
    assert "no place" in refused(graph, "seed")


def test_a_sampler_without_a_model_that_is_found_may_have_another() -> None:
    second = node("pipeSampler", odd=["model", 0], positive=["pos", 0], latent_image=["s", 0], seed=1, steps=20)
    graph = pipeline(t=second, decode=node("VAEDecode", samples=["t", 0]))
    assert "model.ckpt_name" in refused(graph, "model")


def test_a_question_about_a_picture_is_no_prompt() -> None:
    graph = pipeline(
        pos=node("CLIPTextEncode", text=["ask", 0], clip=["model", 1]),
        ask=node("Florence2Run", image=["load", 0], text="describe"),
        load=node("LoadImage", image="a.png"),
    )
    assert places(graph, "prompt") == {"pos.text"}


def test_a_text_that_finds_something_in_a_picture_is_no_prompt() -> None:
    graph = {
        "load": node("LoadImage", image="a.png"),
        "find": node("GroundingDinoSAMSegment", image=["load", 0], sam_model=["m", 0], prompt="a cat", threshold=0.3),
        "save": node("SaveImage", images=["find", 0]),
    }
    assert "no place" in refused(graph, "prompt")


def test_a_long_chain_is_quick_and_a_cycle_ends() -> None:
    chain = {str(n): node("ImageBlur", image=[str(n + 1), 0]) for n in range(20_000)}
    graph = pipeline(**chain, save=node("SaveImage", images=["0", 0]))
    graph["20000"] = node("ImageBlur", image=["decode", 0])
    assert places(graph, "seed") == {"s.seed"}
    graph["20000"]["inputs"]["image"] = ["0", 0]
    assert places(graph, "prompt") == {"pos.text"}, "no output is reached: what nothing depends on is taken for one"
