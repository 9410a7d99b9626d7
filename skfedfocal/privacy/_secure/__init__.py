"""Secure sums: a server learns the sum of its clients' values, and no client's own.

The protocol is that of Bonawitz et al. [1]_, over the sparse random ring of Bell et al. [2]_ where
there are many clients. `SecureClient` and `SecureServer` make one sum in four exchanges (keys;
shares; masked values; unmasking); `SessionClient` and `SessionServer` make many sums of one cohort,
in two exchanges each after the keys. They know nothing of transport: messages are dicts of bytes,
ints and such dicts. `secure_sum` runs all of it in one process, and `_group.LocalSession` a session
for the engine of `fit`.

Who is trusted with what:

- The server follows the protocol and is curious. It learns the sum over the clients whose values
  came, and who they are. With it may collude as many clients as stay below the threshold among any
  one client's neighbours: any minority where all mask with all; in sparse rings `Terms.colluders`
  of all, with the stated probability. It then learns the sum over the other clients.
- A server that lies is resisted only so far: `known_keys` and signatures keep it from putting
  itself between clients; the hash of the view keeps it from telling clients different cohorts,
  terms or contexts (models), as their shares then do not open; ``Terms(active=True)`` keeps it, by
  a threshold above two thirds and as long as fewer than a third of the clients collude, from
  singling out a client by naming different survivors to different clients. It can still name them
  differently, and so learn the sum of fewer than it says; and it can leave clients out, and refuse
  service.
- A sum says what a sum says. Sums of few clients, or two sums in which all but one client sent the
  same values (a round repeated with other survivors), give single values away. Differential privacy
  is for that.

Out of scope: poisoned values (no value is ever seen alone), clients that send false shares (the sum
is refused, or wrong if the false one is a pair's seed in a session), side channels such as timing
and memory, a client's own machine, whose secrets are Python objects and not wiped. No cryptographer
has reviewed it.

References
----------
.. [1] K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning",
   CCS 2017.
.. [2] J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure single-server aggregation
   with (poly)logarithmic overhead", CCS 2020.
"""

from skfedfocal.privacy._secure._client import SecureClient
from skfedfocal.privacy._secure._encoding import Encoding, EncodingError
from skfedfocal.privacy._secure._refusal import SecureSumError
from skfedfocal.privacy._secure._rehearsal import SecureSum, secure_sum
from skfedfocal.privacy._secure._server import SecureServer
from skfedfocal.privacy._secure._session import SessionClient, SessionServer
from skfedfocal.privacy._secure._terms import Terms

__all__ = [
    "Encoding",
    "EncodingError",
    "SecureClient",
    "SecureServer",
    "SecureSum",
    "SecureSumError",
    "SessionClient",
    "SessionServer",
    "Terms",
    "secure_sum",
]
