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
