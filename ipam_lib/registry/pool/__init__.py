"""The pool: addresses that NetBox holds for the next registrations, and addresses in their cooldown.

An entry is one document, like a registration. Its prefix in NetBox has the status `reserved` and the ID of the entry as
`k8s_uuid`:

    making -> ready -> claimed -> deleted      a registration has the address; NetBox is updated afterwards
                 \\-> dropping -> deleted       there are too many
    cooling -> dropping -> deleted             a registration has released the address

The document is written before the prefix and deleted after it. Exception: the prefix has become a registration's; then
the registration is written before the entry is deleted. A claimed entry becomes `ready` again only if the registration
that claimed it is gone, or has another address. Neither can change later: an ID is never used again, and a live
registration keeps its address.
"""
