"""`GET /v1/models`: the models of the engine, and their other names."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from api_models.openai import Model, ModelList
from engines.base import EngineInfo
from routes.deps import HostDep, SettingsDep
from routes.openai.envelope import FAILURES
from routes.openai.names import STARTED_AT, find_model, model_names

router = APIRouter(prefix="/v1", tags=["openai"], responses=FAILURES)


@router.head("/models", include_in_schema=False)
@router.get("/models", summary="List models (OpenAI)")
async def list_models(host: HostDep, settings: SettingsDep) -> ModelList:
    """The engine's models and the names that the settings give them besides; none while the engine was never ready."""
    engine = host.info
    models = [_model(name, engine) for name in model_names(engine, settings.openai.models)] if engine else []
    return ModelList(data=models, models=models)


@router.head("/models/{model:path}", include_in_schema=False)
@router.get("/models/{model:path}", summary="Tell of a model (OpenAI)")
async def get_model(model: str, host: HostDep, settings: SettingsDep) -> Model:
    """A model by any of the names that a request may use."""
    engine = host.info or await host.wait_until_ready(0)
    find_model(model, engine, settings.openai.models)
    return _model(model, engine)


@router.delete("/models/{model:path}", include_in_schema=False)
async def delete_model(model: str, host: HostDep, settings: SettingsDep) -> None:
    """Models stay where they are; one that is not there is told apart, as OpenAI does."""
    find_model(model, host.info or await host.wait_until_ready(0), settings.openai.models)
    raise HTTPException(405, headers={"Allow": "GET"})


def _model(name: str, engine: EngineInfo) -> Model:
    return Model(id=name, created=STARTED_AT, owned_by=engine.name)
