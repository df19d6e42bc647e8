"""Our loop says what upstream's loops say, alone and in a crowd, and leaves nothing behind."""

import copy
import dataclasses

import pytest
import torch
from chatterbox.models.t3.modules.cond_enc import T3Cond

from engines.chatterbox.t3.attention import AttentionWatch
from engines.chatterbox.t3.decoding import Decoder
from engines.chatterbox.t3.kv_cache import KVCache
from engines.chatterbox.t3.linear import Precision
from tests.engines.chatterbox.small_t3 import (
    CPU,
    TEXT,
    VARIANTS,
    make_decoder,
    make_t3,
    make_voice,
    performance,
    spoken,
    upstream_tokens,
)

MOST = 60
NAMES = ("english", "multilingual", "turbo")
LLAMA_SETTINGS = [
    {},
    {"temperature": 1.0, "cfg_weight": 1.0},
    {"temperature": 0.75, "min_p": 0.0, "top_p": 0.8},
    {"repetition_penalty": 2.0, "exaggeration": 1.5, "min_p": 0.2},
]
GPT2_SETTINGS = [
    {"top_p": 0.95},
    {"top_p": 1.0, "temperature": 1.0, "top_k": 0},
    {"top_p": 0.8, "temperature": 0.75, "top_k": 40, "repetition_penalty": 1.0},
    {"top_p": 0.5, "repetition_penalty": 3.0},
]
CASES = [(name, changes) for name in NAMES[:2] for changes in LLAMA_SETTINGS]
CASES += [("turbo", changes) for changes in GPT2_SETTINGS]


@pytest.fixture(scope="module")
def models():
    return {name: make_t3(name) for name in NAMES}


@pytest.fixture(scope="module")
def decoders():
    return {name: make_decoder(make_t3(name), name) for name in NAMES}


@pytest.mark.parametrize(("name", "changes"), CASES)
def test_the_tokens_are_upstreams_and_so_is_what_is_left_of_chance(models, decoders, name, changes):
    how, voice = performance(**changes), make_voice(1)
    expected = upstream_tokens(models[name], TEXT, voice, how, seed=5, most=MOST)
    upstreams_chance = torch.get_rng_state()
    own = torch.Generator().manual_seed(5)

    sequence = decoders[name].admit(TEXT, voice, how, own, MOST)
    while not sequence.is_finished:
        decoders[name].step()

    assert sequence.tokens == expected
    assert torch.equal(own.get_state(), upstreams_chance)


@pytest.mark.parametrize("name", NAMES)
def test_voice_text_and_exaggeration_are_heard(decoders, name):
    plain = spoken(decoders[name], TEXT, make_voice(1), performance(), 5, 10)

    assert spoken(decoders[name], TEXT, make_voice(2), performance(), 5, 10) != plain
    assert spoken(decoders[name], [token + 1 for token in TEXT], make_voice(1), performance(), 5, 10) != plain
    if name != "turbo":
        assert spoken(decoders[name], TEXT, make_voice(1), performance(exaggeration=2.0), 5, 10) != plain


@pytest.mark.parametrize("name", ["english", "turbo"])
def test_a_sequence_that_stops_by_itself_stops_where_upstream_does(name):
    model = make_t3(name, stops_often=True)
    decoder, how = make_decoder(model, name), performance(min_p=0.0, repetition_penalty=1.0)
    ends = []
    for seed in range(4):
        expected = upstream_tokens(model, TEXT, make_voice(), how, seed, 300)

        sequence = decoder.admit(TEXT, make_voice(), how, torch.Generator().manual_seed(seed), 300)
        while not sequence.is_finished:
            decoder.step()

        assert sequence.tokens == expected
        ends.append(sequence.ended_by)
    assert "stop" in ends


@pytest.mark.parametrize("name", NAMES)
def test_eight_voices_that_join_one_after_another_say_in_a_crowd_what_they_say_alone(decoders, name):
    decoder = decoders[name]
    jobs = [
        (TEXT[: 5 + number], make_voice(number), performance(cfg_weight=number % 3 / 2, top_p=1 - number % 2 / 10))
        for number in range(8)
    ]
    alone = [spoken(decoder, *job, seed=number, most=20 + 3 * number) for number, job in enumerate(jobs)]

    crowd = []
    for number, job in enumerate(jobs):
        crowd.append(decoder.admit(*job, torch.Generator().manual_seed(number), 20 + 3 * number))
        for _ in range(number % 4):
            decoder.step()
    while decoder.active:
        decoder.step()

    assert [sequence.tokens for sequence in crowd] == alone


@pytest.mark.parametrize("name", NAMES)
def test_dropping_a_sequence_changes_nothing_for_the_others(decoders, name):
    decoder, how = decoders[name], performance()
    alone = [spoken(decoder, TEXT, make_voice(number), how, number, MOST) for number in range(4)]

    crowd = [decoder.admit(TEXT, make_voice(n), how, torch.Generator().manual_seed(n), MOST) for n in range(4)]
    for step in range(MOST + 1):
        if step in (3, 20):
            decoder.drop(crowd[0 if step == 3 else 2])
        decoder.step()

    assert [crowd[0].ended_by, crowd[2].ended_by] == ["dropped", "dropped"]
    assert [len(crowd[0].tokens), len(crowd[2].tokens)] == [3, 20]
    assert [crowd[1].tokens, crowd[3].tokens] == [alone[1], alone[3]]
    decoder.drop(crowd[1])
    assert crowd[1].ended_by in ("limit", "stop")


def test_without_guidance_one_row_says_what_upstreams_modules_say_with_one_row(models, decoders):
    how, voice = performance(cfg_weight=0.0), make_voice(2)

    tokens = spoken(decoders["english"], TEXT, voice, how, seed=3, most=MOST)

    assert tokens == one_row_reference(models["english"], TEXT, voice, how, seed=3)


def one_row_reference(t3, text, voice, how, seed):
    """T3.inference without its second row, which it always makes; every token from the whole input, without a cache."""
    framed = torch.tensor([[t3.hp.start_text_token, *text, t3.hp.stop_text_token]])
    condition = T3Cond(voice.speaker, None, voice.prompt_tokens, None, how.exaggeration * torch.ones(1, 1, 1))
    own, start = torch.Generator().manual_seed(seed), torch.tensor([[t3.hp.start_speech_token]])
    said: list[int] = []
    with torch.inference_mode():
        embeddings, _ = t3.prepare_input_embeds(t3_cond=condition, text_tokens=framed, speech_tokens=start)
        beginning = t3.speech_emb(start) + t3.speech_pos_emb.get_fixed_embedding(0)
        embeddings = torch.cat([embeddings, beginning], dim=1)
        while len(said) < MOST:
            logits = t3.speech_head(t3.tfmr(inputs_embeds=embeddings).last_hidden_state[0, -1:])
            probabilities = reference_probabilities(logits, [t3.hp.start_speech_token, *said], how)
            said.append(torch.multinomial(probabilities, 1, generator=own).item())
            token = t3.speech_emb(torch.tensor([[said[-1]]])) + t3.speech_pos_emb.get_fixed_embedding(len(said))
            embeddings = torch.cat([embeddings, token], dim=1)
    return said


def reference_probabilities(logits, said, how):
    from tests.engines.chatterbox.test_sampling import llama_reference

    return llama_reference(logits[0], said, how)[None]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_voice_changes_no_token(name):
    how, longer = performance(), [*TEXT, *reversed(TEXT)]
    fresh = [spoken(make_decoder(make_t3(name), name), text, make_voice(), how, 1, 40) for text in (longer, TEXT)]
    forgetful = make_decoder(make_t3(name), name, prefix_bytes=0)
    decoder = make_decoder(make_t3(name), name)

    spoken(decoder, TEXT, make_voice(), how, 9, 5)  # a short text first: the longer one then extends what is known

    assert [spoken(decoder, text, make_voice(), how, 1, 40) for text in (longer, TEXT)] == fresh
    assert [spoken(forgetful, text, make_voice(), how, 1, 40) for text in (longer, TEXT)] == fresh


def test_voices_are_kept_within_their_bytes_and_rows_are_given_back():
    decoder = make_decoder(make_t3("english"), "english", prefix_bytes=100_000)
    for number in range(8):
        spoken(decoder, TEXT, make_voice(number), performance(), 1, 5)

    assert 0 < decoder.size_bytes <= 100_000  # the row cache is empty again: nothing is active

    sequences = [decoder.admit(TEXT, make_voice(), performance(), torch.Generator(), 400) for _ in range(3)]
    a_row = 2 * 2 * 64 * 4 * 256  # keys and values, layers, width, bytes, a block of positions
    assert decoder.size_bytes <= 100_000 + 8 * a_row
    for _ in range(300):
        decoder.step()
    assert decoder.size_bytes <= 100_000 + 8 * 2 * a_row
    for sequence in sequences:
        decoder.drop(sequence)
    assert decoder.size_bytes <= 100_000


@pytest.mark.parametrize("name", NAMES)
def test_upstreams_modules_are_left_as_they_were(name):
    model = make_t3(name)
    before, members = copy.deepcopy(model.tfmr.config.to_dict()), set(vars(model))
    chance = torch.get_rng_state()

    spoken(Decoder(model, VARIANTS[name], "fp32", CPU, 2), TEXT, make_voice(), performance(), 1, 5)

    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert model.tfmr.config.to_dict() == before
    assert model.tfmr.config._attn_implementation == "sdpa"
    assert set(vars(model)) == members
    assert torch.equal(torch.get_rng_state(), chance)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "bf16"])
@pytest.mark.parametrize("name", ["english", "turbo"])
def test_the_transformers_weights_are_not_kept_twice(name, precision: Precision):
    model = make_t3(name)

    Decoder(model, VARIANTS[name], precision, CPU, 2)

    packed = [*model.tfmr.parameters(), *model.speech_head.parameters(), *model.text_head.parameters()]
    assert all(parameter.is_meta for parameter in packed)
    assert not model.speech_emb.weight.is_meta


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_weights_say_the_same_here_and_coarser_ones_say_something(name):
    how = performance()
    exact = spoken(make_decoder(make_t3(name), name), TEXT, make_voice(), how, 1, 30)

    assert spoken(make_decoder(make_t3(name), name, "fp16"), TEXT, make_voice(), how, 1, 30) == exact
    for precision in ("int8", "bf16"):
        assert len(spoken(make_decoder(make_t3(name), name, precision), TEXT, make_voice(), how, 1, 30)) == len(exact)


def test_a_full_decoder_takes_no_more():
    decoder = make_decoder(make_t3("english"), "english", max_sequences=1)
    decoder.admit(TEXT, make_voice(), performance(), torch.Generator(), 10)

    with pytest.raises(RuntimeError, match="1 sequences are active"):
        decoder.admit(TEXT, make_voice(), performance(), torch.Generator(), 10)


@pytest.mark.parametrize(
    ("text", "most", "words"),
    [([], 10, "without tokens"), ([5] * 3000, 10, "3002 tokens"), (TEXT, 5000, "max_tokens"), (TEXT, 0, "max_tokens")],
)
def test_what_the_model_has_no_room_for_is_refused_and_leaves_no_row(decoders, text, most, words):
    with pytest.raises(ValueError, match=words):
        decoders["english"].admit(text, make_voice(), performance(), torch.Generator(), most)

    assert not decoders["english"].active
    assert decoders["english"]._cache.rows == 0


class ScarceCache(KVCache):
    """A cache whose `scarce` method runs out of memory after so many calls."""

    scarce = ""
    calls_left = 0

    def add(self, beginning, room):
        self._count("add")
        return super().add(beginning, room)

    def copy(self, row, length):
        self._count("copy")
        return super().copy(row, length)

    def _count(self, method):
        if method == self.scarce:
            if self.calls_left == 0:
                raise torch.OutOfMemoryError
            self.calls_left -= 1


def scarce_decoder(name, **options):
    """A decoder with a ScarceCache in it, which is not short of anything yet."""
    decoder = make_decoder(make_t3(name), name, **options)
    transformer = decoder._transformer
    decoder._cache = transformer.cache = ScarceCache(transformer.shape, torch.float32, CPU)
    return decoder


def run_out(method, calls):
    def sabotage(decoder):
        decoder._cache.scarce, decoder._cache.calls_left = method, calls

    return sabotage


def deafen(decoder):
    decoder._transformer.watch = AttentionWatch(())  # the analyzer then finds nothing to listen to


def nothing(decoder): ...


FAILURES = {
    "a voice of a wrong shape": (nothing, TEXT, {"speaker": torch.zeros(1, 17)}),
    "a prompt beyond the vocabulary": (nothing, TEXT, {"prompt_tokens": torch.full((1, 9), 10**6)}),
    "a text beyond the vocabulary": (nothing, [*TEXT, 10**6], {}),
    "a text too long": (nothing, [5] * 3000, {}),
    "the voice's row": (run_out("add", 0), TEXT, {}),
    "the voice read, not copied": (run_out("copy", 0), TEXT, {}),
    "the text's row": (run_out("add", 1), TEXT, {}),
    "the second row": (run_out("add", 2), TEXT, {}),
    "all read, the text of zeros not copied": (run_out("copy", 1), TEXT, {}),
    "all read, not heard": (deafen, TEXT, {}),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("others", [0, 2])
def test_an_admission_that_fails_on_its_way_leaves_nothing_to_the_others_and_the_next(case, others):
    sabotage, text, wrong = FAILURES[case]
    decoder, how = scarce_decoder("multilingual"), performance()
    alone = [spoken(decoder, TEXT, make_voice(number), how, 5, 30) for number in range(4)]
    crowd = [decoder.admit(TEXT, make_voice(n), how, torch.Generator().manual_seed(5), 30) for n in range(others)]
    lengths, watch = [*decoder._cache.lengths], decoder._transformer.watch
    stranger = dataclasses.replace(make_voice(9), **wrong)

    sabotage(decoder)
    with pytest.raises((IndexError, KeyError, RuntimeError, ValueError)):
        decoder.admit(text, stranger, how, torch.Generator(), 30)
    decoder._cache.scarce, decoder._transformer.watch = "", watch

    assert decoder.active == crowd
    assert decoder._cache.lengths == lengths
    assert others or decoder._cache.size_bytes == 0
    crowd += [decoder.admit(TEXT, make_voice(n), how, torch.Generator().manual_seed(5), 30) for n in range(others, 4)]
    while decoder.active:
        decoder.step()
    assert [sequence.tokens for sequence in crowd] == alone
    assert decoder._cache.rows == 0
