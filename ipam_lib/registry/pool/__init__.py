"""The pool: addresses that NetBox holds for no registration yet, so that one can be had without asking it, and those
that were released a short while ago and are not to be handed out again yet.

An entry is one document, like a registration, and its prefix in NetBox is `reserved` and bears the entry's id:

    making -> ready -> claimed -> gone      the registration `by` has it; NetBox is told afterwards
                 \\-> dropping -> gone       there are too many
    cooling -> dropping -> gone             released by the registration `by`

The document is there before the prefix, and goes after it, except where the prefix has become a registration's: then
the registration is there before the entry goes. An entry that was claimed goes back to `ready` only when the
registration that claimed it is gone, or has another address: neither can change any more, since an id is never used
twice and a live registration keeps its address.
"""
