# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from haystack import Pipeline
from haystack.dataclasses import ChatMessage
from haystack.utils import Secret

from haystack_integrations.components.generators.resrank import EndpointChatGenerator

TYPE = "haystack_integrations.components.generators.resrank.chat_generator.EndpointChatGenerator"
MESSAGES = [ChatMessage.from_system("Be brief."), ChatMessage.from_user("Hello?")]


@pytest.fixture
def generator() -> EndpointChatGenerator:
    return EndpointChatGenerator(timeout=5, max_retries=0)


def env_var(name: str) -> dict[str, Any]:
    return {"type": "env_var", "env_vars": [name], "strict": False}


def test_defaults_name_the_environment(llm):
    pipeline = Pipeline()
    pipeline.add_component("generator", EndpointChatGenerator())
    pipeline.warm_up()
    assert pipeline.to_dict()["components"]["generator"] == {
        "type": TYPE,
        "init_parameters": {
            "model": env_var("OPENAI_MODEL"),
            "api_base_url": env_var("OPENAI_BASE_URL"),
            "api_key": env_var("OPENAI_API_KEY"),
            "generation_kwargs": {},
            "timeout": None,
            "max_retries": None,
        },
    }
    assert "sk-very-secret" not in pipeline.dumps()
    assert Pipeline.loads(pipeline.dumps()).dumps() == pipeline.dumps()
    assert llm.requests == []


def test_the_endpoint_of_the_environment_is_asked(llm, generator):
    (reply,) = generator.run(messages=MESSAGES)["replies"]
    assert reply.text == "Hello."
    (asked,) = llm.requests
    assert (asked["path"], asked["model"]) == ("/v1/chat/completions", "a-model")
    assert [(m["role"], m["content"]) for m in asked["messages"]] == [("system", "Be brief."), ("user", "Hello?")]
    assert llm.keys == ["Bearer sk-very-secret"]


def test_yaml_may_write_out_model_and_address(llm, monkeypatch):
    monkeypatch.delenv("OPENAI_MODEL")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    text = f"components:\n  g:\n    type: {TYPE}\n    init_parameters:\n"
    text += f"      {{model: mine, api_base_url: {llm.url}, generation_kwargs: {{temperature: 0}}}}\n"
    assert Pipeline.loads(text).run({"messages": MESSAGES})["g"]["replies"][0].text == "Hello."
    assert (llm.requests[0]["model"], llm.requests[0]["temperature"]) == ("mine", 0)


def test_a_server_of_ones_own_needs_no_key(llm, generator, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    assert generator.run(messages=MESSAGES)["replies"]


def test_asynchronous_runs_answer_the_same_and_close(llm, generator):
    async def ask() -> list[Any]:
        await generator.warm_up_async()
        found = await asyncio.gather(*(generator.run_async(messages=MESSAGES) for _ in range(3)))
        await generator.close_async()
        return found

    assert [each["replies"][0].text for each in asyncio.run(ask())] == ["Hello."] * 3


def test_a_closed_generator_runs_again(llm, generator):
    generator.close()
    for _ in range(2):
        assert generator.run(messages=MESSAGES)["replies"]
        generator.close()


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        (["OPENAI_MODEL"], "no LLM is named: set OPENAI_MODEL"),
        (["OPENAI_BASE_URL", "OPENAI_API_KEY"], r"no LLM endpoint is set: set OPENAI_BASE_URL .* or OPENAI_API_KEY"),
    ],
)
def test_what_is_not_set_is_named_when_warming_up(llm, generator, missing, message, monkeypatch):
    for name in missing:
        monkeypatch.delenv(name)
    with pytest.raises(ValueError, match=message):
        generator.warm_up()


def test_without_an_address_it_is_openais(llm, generator, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL")
    generator.warm_up()
    assert str(generator._generator.client.base_url) == "https://api.openai.com/v1/"


def test_an_address_that_is_none_is_named(llm, generator, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(ValueError, match="OPENAI_BASE_URL must start with http:// or https://, got 'localhost:8000'"):
        generator.warm_up()


def fails(generator: EndpointChatGenerator, message: str) -> None:
    with pytest.raises(RuntimeError, match=message) as caught:
        generator.run(messages=MESSAGES)
    assert "\n" not in str(caught.value)
    assert "sk-very-secret" not in str(caught.value)
    with pytest.raises(RuntimeError, match=message):
        asyncio.run(generator.run_async(messages=MESSAGES))


def test_an_endpoint_that_is_not_there(llm, generator, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    fails(
        generator,
        r"the LLM endpoint http://127\.0\.0\.1:9/v1 cannot be reached .*: start it, or correct OPENAI_BASE_URL",
    )


def test_an_endpoint_that_takes_too_long(llm):
    llm.delay_s = 0.5
    fails(EndpointChatGenerator(timeout=0.1, max_retries=0), "did not answer in time: raise the timeout")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
def test_an_endpoint_that_refuses(llm, generator, status):
    llm.status, llm.body = status, {"error": {"message": "not\nthis way", "type": "x"}}
    fails(
        generator,
        rf"refused with status {status} \(.*not.*this way.*\): check OPENAI_API_KEY, .*OPENAI_MODEL \(a-model\)",
    )


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>hello</html>", b"{", [], {}, {"choices": []}, {"choices": [{}]}, "text", {"choices": None}],
    ids=str,
)
def test_a_body_that_is_no_completion(llm, generator, body):
    llm.body = body
    fails(generator, "sent no chat completion .*: check that OPENAI_BASE_URL ends as the server wants it")


@pytest.mark.parametrize("text", ["", "  \n", None])
def test_a_reply_without_text(llm, generator, text):
    llm.body = llm.completion(text)
    fails(generator, r"sent no chat completion \(ValueError: a reply without text\)")


def test_generation_kwargs_that_the_client_does_not_know(llm):
    generator = EndpointChatGenerator(generation_kwargs={"temprature": 0})
    with pytest.raises(ValueError, match=r"generation_kwargs: the client does not know one of \['temprature'\]"):
        generator.run(messages=MESSAGES)
    assert llm.requests == []


def test_retries_are_as_many_as_asked(llm):
    llm.status, llm.body = 500, {}
    with pytest.raises(RuntimeError, match="refused with status 500"):
        EndpointChatGenerator(max_retries=1).run(messages=MESSAGES)
    assert len(llm.requests) == 2


def test_a_secret_may_be_another_variable(llm, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-mine")
    EndpointChatGenerator(api_key=Secret.from_env_var("MY_KEY")).run(messages=MESSAGES)
    assert llm.keys == ["Bearer sk-mine"]


def chunks(*texts: str) -> bytes:
    choices = [{"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None} for text in texts]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [
        {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "a-model", "choices": [choice]}
        for choice in choices
    ]
    return "".join(f"data: {line}\n\n" for line in [*map(json.dumps, lines), "[DONE]"]).encode()


def test_pieces_of_a_reply_are_given_as_they_come(llm, generator):
    llm.body, pieces = chunks("Hel", "lo."), []
    (reply,) = generator.run(messages=MESSAGES, streaming_callback=lambda piece: pieces.append(piece.content))[
        "replies"
    ]
    assert reply.text == "Hello."
    assert "".join(pieces) == "Hello."
    assert len([piece for piece in pieces if piece]) == 2
    assert llm.requests[0]["stream"] is True


def test_pieces_are_given_to_coroutines_too(llm, generator):
    llm.body, pieces = chunks("Hel", "lo."), []

    async def take(piece: Any) -> None:
        pieces.append(piece.content)

    outcome = asyncio.run(generator.run_async(messages=MESSAGES, streaming_callback=take))
    assert outcome["replies"][0].text == "".join(pieces) == "Hello."


def test_who_takes_no_more_pieces_ends_the_reply(llm, generator):
    class EnoughError(Exception):
        pass

    def take(piece: Any) -> None:
        raise EnoughError

    llm.body = chunks("Hel", "lo.")
    with pytest.raises(EnoughError):
        generator.run(messages=MESSAGES, streaming_callback=take)
