"""Where the server is, how one gets in, and what must never be shown of that. Pure: nothing here uses the network.

`address.Address` is what `--server` names, `credentials.Access` what goes along with every request, and
`redaction.Redactor` removes from what the server says back what only its user may know; `secret_keys` says which keys
name a secret. `net`, `jobs` and `cli` use it.
"""
