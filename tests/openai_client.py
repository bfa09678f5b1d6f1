"""The official `openai` package of PyPI against our server (offline): prints nothing but what went wrong."""

import os

import openai

client = openai.OpenAI(base_url=os.environ["OXIOS_URL"] + "/v1", api_key=os.environ["OXIOS_KEY"], max_retries=0)
hello = [{"role": "user", "content": "Hello there"}]

assert [model.id for model in client.models.list()] == ["oxios", "offline"]

for model in ["oxios", "offline"]:
    whole = client.chat.completions.create(model=model, messages=hello)
    text = whole.choices[0].message.content
    assert text and whole.choices[0].finish_reason == "stop" and whole.usage.total_tokens > 0, whole
    chunks = list(client.chat.completions.create(model=model, messages=hello, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == text and chunks[-1].usage.total_tokens > 0, chunks

first = client.chat.completions.create(model="oxios", messages=hello)
session = first.metadata["session_id"]
again = client.chat.completions.create(model="oxios", messages=hello, metadata={"session_id": session})
assert again.metadata["session_id"] == session, again

for error, model, key in [(openai.NotFoundError, "gpt-9", client.api_key), (openai.AuthenticationError, "oxios", "wrong")]:
    try:
        client.with_options(api_key=key).chat.completions.create(model=model, messages=hello)
    except error as refused:
        assert refused.body["message"] and refused.code, refused
    else:
        raise SystemExit(f"{error.__name__} did not come")
print("openai", openai.__version__, "is content")
