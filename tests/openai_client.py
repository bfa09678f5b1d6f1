"""The official `openai` package of PyPI against our server (offline): prints nothing but what went wrong."""

import json
import os
import urllib.request

import openai

client = openai.OpenAI(base_url=os.environ["OXIOS_URL"] + "/v1", api_key=os.environ["OXIOS_KEY"], max_retries=0)
hello = [{"role": "user", "content": "Hello there"}]

assert [model.id for model in client.models.list()] == ["oxios", "offline"]
assert [client.models.retrieve(name).id for name in ["oxios", "offline"]] == ["oxios", "offline"]

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

# A conversation that was held elsewhere is the new session's own, and a retry finds that session.
talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "I am Ada."}, {"role": "assistant", "content": "Noted."}, *hello]
begin = lambda: client.chat.completions.create(model="oxios", messages=talk, extra_headers={"Idempotency-Key": "python-1"})
begun = begin()
assert (begin().id, begin().metadata) == (begun.id, begun.metadata), begun
url = f"{os.environ['OXIOS_URL']}/api/sessions/{begun.metadata['session_id']}"
kept = json.load(urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {client.api_key}"})))
assert [said["content"] for said in kept["user_messages"]] == ["I am Ada.", "Hello there"], kept
assert [said["content"] for said in kept["agent_responses"]] == ["Noted.", begun.choices[0].message.content], kept

try:
    client.models.retrieve("openai/none")
except openai.NotFoundError as refused:
    assert refused.code == "model_not_found", refused
else:
    raise SystemExit("a model that there is not was retrieved")

for error, model, key in [(openai.NotFoundError, "gpt-9", client.api_key), (openai.AuthenticationError, "oxios", "wrong")]:
    try:
        client.with_options(api_key=key).chat.completions.create(model=model, messages=hello)
    except error as refused:
        assert refused.body["message"] and refused.code, refused
    else:
        raise SystemExit(f"{error.__name__} did not come")
print("openai", openai.__version__, "is content")
