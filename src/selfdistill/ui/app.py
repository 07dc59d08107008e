"""The routes of the workbench. A route that works for longer than a moment runs in a thread of the server."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Annotated, Any

from fastapi import FastAPI, Form, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, Response

from ..errors import ExperimentError, RecipeError, SelfDistillError
from ..pipeline.check import check
from ..pipeline.new_recipe import check_model_name, write_recipe
from ..recipe import load_recipe
from ..reports.findings import Findings
from ..reports.next_steps import next_steps
from ..reports.sentences import headline
from ..reports.svg import arm_slots
from ..store.marks import Choice, HandMark
from .access import LocalAccess
from .bench import Bench, Job
from .chat import Asked
from .curves import loss_svg
from .data_look import look
from .html_pages import respond, script, style
from .live import headline_of, log_tail, losses, progressed, runs_with_weights
from .recipe_editor import problem_of, read_recipe, save_text
from .rewrite_table import MOST, RewriteTable, Shown

REPORT_FILES = ("report.html", "answers.html", "rewrites.html")
Text = Annotated[str, Form()]


def make_app(bench: Bench, token: str, port: int) -> FastAPI:
    """The application for one workbench, which answers requests with this token on this port alone."""
    app = FastAPI(title="selfdistill", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.bench = bench
    app.add_middleware(LocalAccess, token=token, port=port)
    app.add_exception_handler(SelfDistillError, _problem)
    app.add_exception_handler(RequestValidationError, _nonsense)
    for add in (_static, _data_routes, _recipe_routes, _run_routes, _rewrite_routes, _chat_routes, _report_routes):
        add(app, bench)
    return app


def _problem(request: Request, error: Exception) -> Response:
    """A sentence within the page that asked, or a page with the sentence."""
    if request.headers.get("hx-request"):
        return respond("problem.html.jinja", 409, message=str(error))
    return respond("problem_page.html.jinja", 409, message=str(error), bench=request.app.state.bench, page="")


def _nonsense(request: Request, _error: Exception) -> Response:
    return _problem(request, ExperimentError("The page sent something unexpected; load it again."))


def _static(app: FastAPI, _bench: Bench) -> None:
    @app.get("/static/style.css")
    def css() -> Response:
        return PlainTextResponse(style(), media_type="text/css")

    @app.get("/static/{name}.js")
    def code(name: str) -> Response:
        known = {"htmx": "htmx.min.js", "workbench": "workbench.js"}
        if name not in known:
            return PlainTextResponse("not found", 404)
        return PlainTextResponse(script(known[name]), media_type="text/javascript")


# ---- 1 model and data


def _data_routes(app: FastAPI, bench: Bench) -> None:
    @app.get("/")
    def page() -> HTMLResponse:
        model, data = "demo", ""
        if bench.recipe.is_file():
            try:
                recipe = load_recipe(bench.recipe)
                model, data = recipe.model.path, recipe.data.path if recipe.data and recipe.data.path else ""
            except SelfDistillError:  # the recipe's page shows what is wrong with it
                pass
        return respond("data.html.jinja", page="data", bench=bench, model=model, data=data)

    @app.post("/data/look")
    def looked(model: Text = "", data: Text = "") -> HTMLResponse:
        _refuse_empty(model, data)
        return respond("looked.html.jinja", found=look(model.strip(), data.strip()))

    @app.post("/data/write")
    def written(model: Text = "", data: Text = "", overwrite: Text = "") -> HTMLResponse:
        _refuse_empty(model, data)
        check_model_name(model.strip())
        if bench.recipe.exists() and not overwrite:
            raise RecipeError(f"{bench.recipe} is there already. Tick “overwrite” to replace it.")
        said = write_recipe(model.strip(), data.strip(), bench.recipe, force=bool(overwrite))
        return respond("written.html.jinja", bench=bench, said=said)


def _refuse_empty(model: str, data: str) -> None:
    if not model.strip() or not data.strip():
        raise RecipeError("Name a model and a dataset.")


# ---- 2 recipe


def _recipe_routes(app: FastAPI, bench: Bench) -> None:
    saving = Lock()

    @app.get("/recipe")
    def page() -> HTMLResponse:
        found = read_recipe(bench.recipe)
        problem = problem_of(found.text, bench.recipe) if found.text else None
        return respond("recipe.html.jinja", page="recipe", bench=bench, found=found, problem=problem)

    @app.post("/recipe/validate")
    def validated(text: Text = "") -> HTMLResponse:
        return respond("validated.html.jinja", problem=problem_of(text, bench.recipe))

    @app.post("/recipe")
    def saved(text: Text = "", state: Text = "") -> HTMLResponse:
        with saving:
            found = save_text(bench.recipe, text, state)
        return respond("saved.html.jinja", bench=bench, found=found)

    @app.post("/recipe/check")
    def checked() -> HTMLResponse:
        return respond("checked.html.jinja", checked=check(load_recipe(bench.recipe), directory=bench.directory))


# ---- 3 run


def _run_routes(app: FastAPI, bench: Bench) -> None:
    @app.get("/run")
    def page() -> HTMLResponse:
        return respond("run.html.jinja", page="run", **_progress(bench))

    @app.get("/run/progress")
    def progress() -> HTMLResponse:
        return respond("progress.html.jinja", **_progress(bench))

    @app.post("/run/start")
    def start(job: Annotated[Job, Form()] = "run") -> HTMLResponse:
        found = read_recipe(bench.recipe)
        if not found.text:
            raise RecipeError("There is no recipe yet; choose a model and data, or write one.")
        if problem := problem_of(found.text, bench.recipe):
            raise RecipeError(f"The recipe can't be run: {problem.message}")
        bench.start(job)
        return respond("progress.html.jinja", **_progress(bench))

    @app.post("/run/stop")
    def stop() -> HTMLResponse:
        bench.stop()
        return respond("progress.html.jinja", **_progress(bench))


def _progress(bench: Bench) -> dict[str, Any]:
    """The values of the page that shows a run."""
    running, manifest, verdict = bench.is_running, bench.manifest, headline_of(bench.directory)
    values: dict[str, Any] = {"bench": bench, "running": running, "log": log_tail(bench.directory), "problem": ""}
    values |= {"words": bench.last_words, "whole": None, "curves": {}, "svg": "", "slots": {}, "said": ""}
    try:
        context = bench.context()
        values["whole"] = progressed(bench.directory, context, manifest, running)
    except SelfDistillError as error:
        return values | {"problem": str(error)}
    curves, arms = losses(bench.directory, context.runs), arm_slots([*context.recipe.arms], context.seed_arm)
    slots = {run: arms[context.runs[run].arm] for run in curves}
    if verdict.get("comparisons"):
        values["said"] = headline(Findings.of(verdict))
    return values | {"curves": curves, "svg": loss_svg(curves, slots), "slots": slots}


# ---- 4 rewrites


def _rewrite_routes(app: FastAPI, bench: Bench) -> None:
    table = RewriteTable(bench)

    @app.get("/rewrites")
    def page(shown: Shown = "all", number: int = 1) -> HTMLResponse:
        values: dict[str, Any] = {"page": "rewrites", "bench": bench, "most": MOST}
        try:
            return respond("rewrites.html.jinja", table=table.page(shown, number), problem="", **values)
        except SelfDistillError as error:
            return respond("rewrites.html.jinja", table=None, problem=str(error), **values)

    @app.get("/rewrites/state")
    def state(seen: int = 0) -> HTMLResponse:
        found = table.page()
        return respond("rewrites_state.html.jinja", table=found, seen=seen, running=bench.is_running)

    @app.post("/rewrites/mark")
    def mark(row: Text, choice: Annotated[Choice, Form()], text: Text = "") -> HTMLResponse:
        changed = table.mark(row, HandMark(choice, text.replace("\r\n", "\n")))
        return respond("rewrite_row.html.jinja", row=changed, closed=None)

    @app.post("/rewrites/move")
    def move(directory: Text = "") -> Response:
        bench.move(directory.strip())
        return Response(headers={"hx-redirect": "/run"})


# ---- 5 chat


def _chat_routes(app: FastAPI, bench: Bench) -> None:
    @app.get("/chat")
    def page() -> HTMLResponse:
        runs, problem = list[str](), ""
        try:
            bench.experiment()
            runs = [*runs_with_weights(bench.directory, bench.context())]
        except SelfDistillError as error:
            problem = str(error)
        values: dict[str, Any] = {"asked": bench.chat.asked, "running": bench.is_running, "problem": problem}
        return respond("chat.html.jinja", page="chat", bench=bench, runs=runs, **values)

    @app.post("/chat")
    def ask(prompt: Text = "", system: Text = "", run: Annotated[list[str] | None, Form()] = None) -> HTMLResponse:
        bench.experiment()
        known = [*runs_with_weights(bench.directory, bench.context())]
        chosen = [name for name in known if name in (run or [])]
        if not prompt.strip() or not chosen:
            raise ExperimentError("Write a prompt, and choose at least one model.")
        return _answers(bench.chat.ask(prompt.replace("\r\n", "\n"), system.strip(), chosen))

    @app.get("/chat/answers")
    def answers() -> HTMLResponse:
        return _answers(bench.chat.asked)


def _answers(asked: Asked | None) -> HTMLResponse:
    return respond("answers.html.jinja", asked=asked)


# ---- 6 report


def _report_routes(app: FastAPI, bench: Bench) -> None:
    @app.get("/report")
    def page() -> HTMLResponse:
        there = [name for name in REPORT_FILES if (bench.directory / name).is_file()]
        verdict = headline_of(bench.directory)
        sentence, commands = next_steps(verdict, bench.directory) if verdict.get("arms") else ("", [])
        said = headline(Findings.of(verdict)) if verdict.get("comparisons") else ""
        commands = [each for each in commands if each[0] != "open the report"]
        values: dict[str, Any] = {"there": there, "said": said, "sentence": sentence, "commands": commands}
        return respond("report.html.jinja", page="report", bench=bench, verdict=verdict, **values)

    @app.get("/report/{name}")
    def file(name: str) -> Response:
        path = Path(bench.directory) / name
        if name not in REPORT_FILES or not path.is_file():
            return PlainTextResponse("There is no such page of the report.\n", 404)
        return FileResponse(path, media_type="text/html")
