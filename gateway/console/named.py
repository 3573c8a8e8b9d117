"""Pages of what is called by a name and has versions: a list, each one, and whether new sessions may use it."""

from typing import Any, NamedTuple

from starlette.datastructures import FormData
from starlette.responses import Response

from gateway.console.api import path
from gateway.console.page import Page, once, said, see, sent, shown


class Named(NamedTuple):
    """`noun` in the plural, as in addresses; `about` says what is shown of each in the list besides name, version and status."""

    noun: str
    about: str

    async def all(self, page: Page) -> Response:
        found = await page.api.get(path(self.noun), retired=True, cursor=page.argument("cursor"))
        return page.draw(f"{self.noun}.html", list=found)

    async def one(self, page: Page) -> Response:
        name, asked = page.named("name"), {"version": page.argument("version"), "position": page.argument("position")}
        return page.draw("named.html", noun=self.noun, about=self.about, found=await page.api.get(path(self.noun, name), **asked))

    async def retire(self, page: Page, form: FormData) -> Response:
        answer = await page.api.write("DELETE", path(self.noun, page.named("name")), None, once(form), reason=said(form, "reason"))
        return self._see(answer.document)

    async def restore(self, page: Page, form: FormData) -> Response:
        answer = await page.api.write("POST", path(self.noun, page.named("name"), "restore"), None, once(form))
        return self._see(answer.document)

    def _see(self, document: Any) -> Response:
        return see(f"/console/{self.noun}/{document['name']}?position={document['position']}")

    def routes(self) -> tuple[tuple[str, str, Any], ...]:
        return (
            ("GET", f"/console/{self.noun}", shown(self.all)),
            ("GET", f"/console/{self.noun}/{{name}}", shown(self.one)),
            ("POST", f"/console/{self.noun}/{{name}}/retire", sent(self.retire)),
            ("POST", f"/console/{self.noun}/{{name}}/restore", sent(self.restore)),
        )
