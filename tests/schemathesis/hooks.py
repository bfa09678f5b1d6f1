"""What schemathesis has to be told about this server beside its OpenAPI document."""

import schemathesis
from hypothesis import strategies
from schemathesis.specs.openapi import checks

# `ignored_auth` sends a wrong credential to every operation and wants 401 or 403. From the 11th wrong one of a peer within a minute
# this server answers 429, as its document says: that is a refusal, too.
assert set(checks.AUTH_REJECTION_STATUSES) == {401, 403}, "another version of schemathesis: look at what it checks now"
checks.AUTH_REJECTION_STATUSES = frozenset({401, 403, 429})

# Two formats that no JSON schema knows.
schemathesis.openapi.format("cron", strategies.sampled_from(["* * * * *", "30 7 * * mon-fri", "0 0 1,15 */2 7", "@daily"]))
schemathesis.openapi.format("time-zone", strategies.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]))


@schemathesis.hook
def before_load_schema(context, schema):
    """Making one text of 64 KiB takes longer than all other cases together; the integration tests send the texts at these limits."""
    parts = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict) and isinstance(part.get("maxLength"), int) and part["maxLength"] > 1024:
            del part["maxLength"]
        if isinstance(part, (dict, list)):
            parts.extend(part.values() if isinstance(part, dict) else part)


@schemathesis.hook
def before_call(context, case, kwargs):
    """A test asks no provider on the net; tests/it/engine.rs asks a scripted one."""
    if case.operation.label == "GET /api/engine/models" and str(case.query.get("provider")) in ("openai", "anthropic"):
        case.query["provider"] = "offline"
