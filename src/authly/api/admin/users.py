"""Users."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from authly.admin.service import AdministrationService
from authly.api.admin.access import AdminAccess, Administrator
from authly.api.admin.paging import Page, Paging, bad_cursor, paging
from authly.api.admin.problems import Problem, documented, not_found
from authly.api.admin.resources import resource_router
from authly.audit.models import Party
from authly.users.models import Profile, User
from authly.users.repository import UserFilter
from authly.users.service import UserService


class ProfileFields(BaseModel):
    """What can be said about a user."""

    model_config = ConfigDict(extra="forbid")

    username: str
    email: str | None = None
    email_verified: bool = False
    name: str | None = None
    claims: dict[str, Any] = Field(default={}, description="Further standard claims of OpenID Connect Core 5.1.")
    is_admin: bool = False


class NewUser(ProfileFields):
    """A user to create."""

    password: str | None = Field(default=None, description="Without one, nobody can log in until it is reset.")


class UserChanges(BaseModel):
    """What to change about a user; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    username: str | None = None
    email: str | None = None
    email_verified: bool | None = None
    name: str | None = None
    claims: dict[str, Any] | None = None
    is_admin: bool | None = None
    disabled: bool | None = Field(default=None, description="Disabled users cannot log in, and hold nothing.")


class UserBody(BaseModel):
    """A user."""

    user_id: UUID
    username: str
    email: str | None
    email_verified: bool
    name: str | None
    claims: dict[str, Any]
    is_admin: bool
    disabled_at: datetime | None
    created_at: datetime
    updated_at: datetime


class NewPassword(BaseModel):
    """A password to set."""

    model_config = ConfigDict(extra="forbid")

    password: str | None = Field(default=None, description="By default Authly makes one up.")


class PasswordBody(BaseModel):
    """A password that was set."""

    user_id: UUID
    password: str | None = Field(description="The one that Authly made up, shown this once; null for any other.")


class Ended(BaseModel):
    """How many sessions were ended."""

    ended: int


# Null means something for these; for all others it means that they stay as they are.
_NULLABLE = {"email", "name"}


def users_router(users: UserService, administration: AdministrationService, access: AdminAccess) -> APIRouter:
    """Return the routes of users.

    Args:
        users: knows them.
        administration: does what concerns more than users.
        access: knows who may.
    """
    router = resource_router("users")
    Reader = Annotated[Administrator, Depends(access.read)]  # noqa: N806
    Writer = Annotated[Administrator, Depends(access.write)]  # noqa: N806

    async def find(user_id: UUID) -> User:
        user = await users.get(user_id)
        if user is None:
            raise not_found("user")
        return user

    @router.get("", summary="List users, the oldest first", responses=documented(400))
    async def list_users(
        _: Reader,
        part: Annotated[Paging, Depends(paging)],
        search: Annotated[
            str | None, Query(max_length=200, description="Part of the username, the e-mail address or the name.")
        ] = None,
        is_admin: bool | None = None,
        disabled: bool | None = None,
    ) -> Page[UserBody]:
        wanted = UserFilter(search, is_admin, disabled)
        return part.page(await users.list(wanted, part.limit + 1, _after(part.cursor)), _show, _cursor)

    @router.post("", status_code=201, summary="Create a user", responses=documented())
    async def create_user(new: NewUser, admin: Writer, response: Response) -> UserBody:
        profile = Profile(**new.model_dump(exclude={"password"}))
        user = await users.create(profile, new.password, admin.party, admin.address)
        response.headers["location"] = f"/admin/v1/users/{user.user_id}"
        return _show(user)

    @router.get("/{user_id}", summary="Show a user", responses=documented(404))
    async def show_user(user_id: UUID, _: Reader) -> UserBody:
        return _show(await find(user_id))

    @router.patch("/{user_id}", summary="Change, disable or enable a user", responses=documented(404, 409))
    async def change_user(user_id: UUID, changes: UserChanges, admin: Writer) -> UserBody:
        given = changes.model_dump(include=changes.model_fields_set)
        wanted = {name: value for name, value in given.items() if value is not None or name in _NULLABLE}
        disabled = wanted.pop("disabled", None)
        if disabled or wanted.get("is_admin") is False:
            _refuse_oneself(admin, user_id)
        await find(user_id)
        if wanted:
            await users.update(user_id, wanted, admin.party, admin.address)
        if disabled:
            await administration.disable_user(user_id, admin.party, admin.address)
        elif disabled is False:
            await users.enable(user_id, admin.party, admin.address)
        return _show(await find(user_id))

    @router.delete(
        "/{user_id}", status_code=204, summary="Delete a user with all that is theirs", responses=documented(404, 409)
    )
    async def delete_user(user_id: UUID, admin: Writer) -> None:
        _refuse_oneself(admin, user_id)
        if not await users.delete(user_id, admin.party, admin.address):
            raise not_found("user")

    @router.post(
        "/{user_id}/password",
        summary="Reset a user's password, end their sessions and revoke their tokens",
        responses=documented(404),
    )
    async def reset_password(user_id: UUID, new: NewPassword, admin: Writer) -> PasswordBody:
        password = await administration.reset_password(user_id, admin.party, new.password, admin.address)
        if password is None:
            raise not_found("user")
        return PasswordBody(user_id=user_id, password=password if new.password is None else None)

    @router.delete("/{user_id}/sessions", summary="End all sessions of a user", responses=documented(404))
    async def end_sessions(user_id: UUID, admin: Writer) -> Ended:
        await find(user_id)
        return Ended(ended=await administration.end_sessions(user_id, admin.party, admin.address))

    return router


def _refuse_oneself(admin: Administrator, user_id: UUID) -> None:
    if admin.party == Party.user(user_id):
        raise Problem(409, "Administrators cannot delete, disable or demote themselves. Ask another one to do it.")


def _cursor(user: User) -> list[str]:
    return [user.created_at.isoformat(), str(user.user_id)]


def _after(cursor: Any) -> tuple[datetime, UUID] | None:
    if cursor is None:
        return None
    try:
        created_at, user_id = cursor
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise bad_cursor()
        return moment, UUID(user_id)
    except (TypeError, ValueError, AttributeError) as error:
        raise bad_cursor() from error


def _show(user: User) -> UserBody:
    return UserBody(
        user_id=user.user_id,
        username=user.username,
        email=user.email,
        email_verified=user.email_verified,
        name=user.name,
        claims=dict(user.claims),
        is_admin=user.is_admin,
        disabled_at=user.disabled_at,
        created_at=user.created_at,
        updated_at=user.updated_at,
    )
