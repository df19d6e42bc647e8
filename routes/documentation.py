"""Swagger UI at `/docs` and ReDoc at `/redoc`, with their scripts served from here: no page asks the internet."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_redoc_html
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

SWAGGER, REDOC, FAVICON = "/docs", "/redoc", "/docs/favicon"  # each page and what it loads, below its address

# Whatever a script would fetch from elsewhere, the browser refuses.
ONLY_FROM_HERE = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' data: blob:; worker-src blob:; object-src 'none'"
}

# As FastAPI's own page, with a player above the download that Swagger UI makes of an audio attachment.
SWAGGER_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Swagger UI</title>
<link rel="stylesheet" href="{assets}/swagger-ui.css">
<link rel="icon" href="{favicon}/favicon.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script>
const addresses = new WeakMap();
const addressOf = (audio) => {{
  if (!addresses.has(audio)) addresses.set(audio, URL.createObjectURL(audio));
  return addresses.get(audio);
}};
const player = () => ({{
  wrapComponents: {{
    responseBody: (Original, {{ React }}) => (props) => React.createElement("div", null,
      (props.contentType || "").startsWith("audio/") && props.content instanceof Blob
        && React.createElement("audio", {{ controls: true, src: addressOf(props.content) }}),
      React.createElement(Original, props)),
  }},
}});
SwaggerUIBundle({{
  url: "{openapi_url}",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
  layout: "BaseLayout",
  deepLinking: true,
  tryItOutEnabled: true,
  validatorUrl: null,
  plugins: [player],
}});
</script>
</body>
</html>
"""

router = APIRouter(include_in_schema=False)


def mount_assets(app: FastAPI) -> None:
    """Serve the scripts that the package fastapi-standalone-docs carries; the package itself is not imported."""
    spec = find_spec("fastapi_standalone_docs")
    assert spec is not None
    assert spec.origin is not None
    static = Path(spec.origin).parent / "static"
    for path, folder in ((FAVICON, "fastapi"), (SWAGGER, "swagger"), (REDOC, "redoc")):
        app.mount(path, StaticFiles(directory=static / folder))


@router.get(SWAGGER + "/")
@router.get(SWAGGER)
async def swagger_ui(request: Request) -> HTMLResponse:
    page = SWAGGER_PAGE.format(
        title=request.app.title, openapi_url=request.app.openapi_url, assets=SWAGGER, favicon=FAVICON
    )
    return HTMLResponse(page, headers=ONLY_FROM_HERE)


@router.get(REDOC + "/")
@router.get(REDOC)
async def redoc(request: Request) -> HTMLResponse:
    page = get_redoc_html(
        openapi_url=str(request.app.openapi_url),
        title=f"{request.app.title} · ReDoc",
        redoc_js_url=f"{REDOC}/redoc.standalone.js",
        redoc_favicon_url=f"{FAVICON}/favicon.png",
        with_google_fonts=False,
    )
    page.headers.update(ONLY_FROM_HERE)
    return page
