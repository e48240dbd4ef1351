# SPDX-FileCopyrightText: 2026 ResRank maintainers
#
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from haystack import component
from haystack.dataclasses import ChatMessage, StreamingCallbackT
from haystack.utils import Secret

if TYPE_CHECKING:
    from haystack.components.generators.chat import OpenAIChatGenerator

_OPENAI = "https://api.openai.com/v1"
_NO_KEY = "none"  # servers of one's own ask for none, and the client refuses an empty one


@component
class EndpointChatGenerator:
    """
    Haystack's `OpenAIChatGenerator` for an endpoint that environment variables name, its model among them.

    So one YAML file serves OpenAI and any server that speaks its chat completions (vLLM, Ollama, llama.cpp, …). What
    goes wrong at the endpoint is said in one line that tells what to do.

    ```python
    from haystack.dataclasses import ChatMessage
    from haystack_integrations.components.generators.resrank import EndpointChatGenerator

    # OPENAI_BASE_URL=http://localhost:8000/v1 OPENAI_MODEL=Qwen/Qwen3-4B
    generator = EndpointChatGenerator()
    print(generator.run(messages=[ChatMessage.from_user("Say hello.")])["replies"][0].text)  # Hello!
    ```
    """

    def __init__(
        self,
        *,
        model: Secret | str = Secret.from_env_var("OPENAI_MODEL", strict=False),  # noqa: B008
        api_base_url: Secret | str = Secret.from_env_var("OPENAI_BASE_URL", strict=False),  # noqa: B008
        api_key: Secret = Secret.from_env_var("OPENAI_API_KEY", strict=False),  # noqa: B008
        generation_kwargs: dict[str, Any] | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
    ) -> None:
        """
        Create the generator; nothing is resolved yet.

        :param model: the model's name at the endpoint.
        :param api_base_url: where the endpoint is, e.g. `http://localhost:8000/v1`; where that is not set, OpenAI's.
        :param api_key: of the endpoint; a server of one's own may need none.
        :param generation_kwargs: as `OpenAIChatGenerator` takes them, e.g. `{"temperature": 0}`.
        :param timeout: seconds to wait for a reply; `None` takes `OPENAI_TIMEOUT`, else 30.
        :param max_retries: how often to ask again when the endpoint fails; `None` takes `OPENAI_MAX_RETRIES`, else 5.
        """
        self.model = model
        self.api_base_url = api_base_url
        self.api_key = api_key
        self.generation_kwargs = dict(generation_kwargs or {})
        self.timeout = timeout
        self.max_retries = max_retries
        self._generator: OpenAIChatGenerator | None = None

    def warm_up(self) -> None:
        """
        Resolve the endpoint and make the client; nothing is sent. `run` does it when nobody did.

        :raises ValueError: when the model, or both key and address, are not set, or the address is none.
        """
        self._resolved().warm_up()

    async def warm_up_async(self) -> None:
        """
        As `warm_up`, with the client of the running event loop.
        """
        await self._resolved().warm_up_async()

    def close(self) -> None:
        """
        Close the client. A later `run` makes another.
        """
        if self._generator is not None:
            self._generator.close()

    async def close_async(self) -> None:
        """
        Close the client of the event loop.
        """
        if self._generator is not None:
            await self._generator.close_async()

    @component.output_types(replies=list[ChatMessage])
    def run(
        self, messages: list[ChatMessage], streaming_callback: StreamingCallbackT | None = None
    ) -> dict[str, list[ChatMessage]]:
        """
        Get a reply.

        :param messages: the conversation so far.
        :param streaming_callback: called with each piece of the reply as it comes; what it raises ends the reply.
        :returns: `replies`.
        :raises ValueError: when the endpoint is not set.
        :raises RuntimeError: when it cannot be reached, refuses, takes too long, or sends no reply.
        """
        generator = self._resolved()
        with self._explained():
            return _with_text(generator.run(messages, streaming_callback=streaming_callback))

    @component.output_types(replies=list[ChatMessage])
    async def run_async(
        self, messages: list[ChatMessage], streaming_callback: StreamingCallbackT | None = None
    ) -> dict[str, list[ChatMessage]]:
        """
        Get a reply, as `run` does.

        :param messages: the conversation so far.
        :param streaming_callback: called with each piece of the reply as it comes; a coroutine function.
        :returns: `replies`.
        :raises ValueError: as `run`.
        :raises RuntimeError: as `run`.
        """
        generator = self._resolved()
        with self._explained():
            return _with_text(await generator.run_async(messages, streaming_callback=streaming_callback))

    def _resolved(self) -> OpenAIChatGenerator:
        generator = self._generator
        if generator is None:
            from haystack.components.generators.chat import OpenAIChatGenerator

            model, url, key = _value(self.model), _value(self.api_base_url), _value(self.api_key)
            if not model:
                msg = "no LLM is named: set OPENAI_MODEL to the name of a model at the endpoint"
                raise ValueError(msg)
            if not url and not key:
                msg = (
                    "no LLM endpoint is set: set OPENAI_BASE_URL (e.g. http://localhost:8000/v1) for a server of your "
                    "own, or OPENAI_API_KEY for OpenAI's"
                )
                raise ValueError(msg)
            if url and not url.startswith(("http://", "https://")):
                msg = f"OPENAI_BASE_URL must start with http:// or https://, got {url!r}"
                raise ValueError(msg)
            generator = self._generator = OpenAIChatGenerator(
                api_key=Secret.from_token(key or _NO_KEY),
                model=model,
                api_base_url=url or _OPENAI,  # else the client takes a variable that is set, but empty
                generation_kwargs=self.generation_kwargs,
                timeout=self.timeout,
                max_retries=self.max_retries,
            )
        return generator

    @contextmanager
    def _explained(self) -> Iterator[None]:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        where = f"the LLM endpoint {_value(self.api_base_url) or _OPENAI}"
        try:
            yield
        except APITimeoutError as error:
            msg = f"{where} did not answer in time: raise the timeout, or take a faster model (OPENAI_MODEL)"
            raise RuntimeError(msg) from error
        except APIConnectionError as error:
            msg = f"{where} cannot be reached ({error.__cause__ or error}): start it, or correct OPENAI_BASE_URL"
            raise RuntimeError(msg) from error
        except APIStatusError as error:
            msg = (
                f"{where} refused with status {error.status_code} ({_one_line(error.message)}): check OPENAI_API_KEY, "
                f"OPENAI_BASE_URL and OPENAI_MODEL ({_value(self.model)})"
            )
            raise RuntimeError(msg) from error
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise RuntimeError(_no_completion(where, error)) from error
            msg = f"generation_kwargs: the client does not know one of {sorted(self.generation_kwargs or {})} ({error})"
            raise ValueError(msg) from error
        # What Haystack and the client raise over a body that is no chat completion.
        except (OpenAIError, AssertionError, AttributeError, LookupError, ValueError) as error:
            raise RuntimeError(_no_completion(where, error)) from error


def _no_completion(where: str, error: Exception) -> str:
    return (
        f"{where} sent no chat completion ({type(error).__name__}: {_one_line(str(error))}): check that "
        "OPENAI_BASE_URL ends as the server wants it, most often with /v1"
    )


def _value(setting: Secret | str) -> str | None:
    return setting.resolve_value() if isinstance(setting, Secret) else setting


def _with_text(outcome: dict[str, list[ChatMessage]]) -> dict[str, list[ChatMessage]]:
    if not any((reply.text or "").strip() for reply in outcome["replies"]):
        msg = "a reply without text"
        raise ValueError(msg)
    return outcome


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:199]}…"
