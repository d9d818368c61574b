"""A native login may be cancelled at any moment. [T43]"""

from __future__ import annotations

from pywry_auth.exceptions import AuthFlowCancelled
from pywry_auth.native.flow_manager import AuthFlowManager
from tests.lifecycle.stepping import Actor
from tests.lifecycle.world import CALLBACK, USER, World


def _login(world: World) -> tuple[AuthFlowManager, Actor]:
    worker = world.workers[0]
    manager = AuthFlowManager(worker.provider, worker.tokens, handler=world.answer, redirect_uri=CALLBACK)
    return manager, Actor("native login", manager.run_native)


def test_a_login_that_is_cancelled_while_it_stores_its_tokens_keeps_or_revokes_them(world: World) -> None:
    """The program learns which: either the login succeeds, or its tokens are revoked and not stored."""
    world.restart(browsers=0)
    _, whole = _login(world)
    assert whole.run()
    steps = len(whole.steps)
    assert steps > 0
    for step in range(steps + 1):
        world.restart(browsers=0)
        manager, login = _login(world)
        assert login.run(step)
        manager.cancel()
        assert login.run()
        login.join()
        (grant,) = world.grants
        if isinstance(login.error, AuthFlowCancelled):
            assert not grant.live, step
            assert not world.workers[0].tokens.exists(USER), step
        else:
            assert login.result.user_id == USER, step
            assert world.stored == grant, step
