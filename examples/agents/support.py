"""Two agents: a triage that uses tools in a loop, and a digest that summarises a text longer than the model reads.

The model is very small, and is held to a form by JSON schemas. With a larger one the tools could be given to the
model itself (`tools=[…]`, `reply.tool_calls`); the loop stays the same.
"""

from typing import Any

from tasks import Llm, agent

#: What the shop knows of its customers. A real tool would ask a database or an API: such effects belong in a step.
ORDERS = {f"C-{100 + number}": f"order {7000 + number}, shipped on Monday" for number in range(0, 20, 2)}

QUEUES = ("billing", "bug", "shipping", "account", "feature")

TRIAGE = "You route support tickets of a web shop. Answer as JSON."

EXAMPLES = [
    {"role": "user", "content": "Ticket: My parcel has not arrived."},
    {"role": "assistant", "content": '{"summary": "The parcel has not arrived.", "queue": "shipping"}'},
    {"role": "user", "content": "Ticket: I forgot my password and cannot log in."},
    {"role": "assistant", "content": '{"summary": "The customer cannot log in.", "queue": "account"}'},
    {"role": "user", "content": "Ticket: The invoice has a wrong amount."},
    {"role": "assistant", "content": '{"summary": "The invoice is wrong.", "queue": "billing"}'},
]


def form(**fields: Any) -> dict[str, Any]:
    """A response_format: an object with these fields and nothing else."""
    schema = {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}
    return {"type": "json_schema", "json_schema": {"name": "form", "strict": True, "schema": schema}}


def find_order(customer: str) -> str:
    """A tool: the customer's last order."""
    return ORDERS.get(customer, "no order")


def find_outage(queue: str) -> str:
    """A tool: whether something is known to be down."""
    return "login is slow since 09:00" if queue == "account" else "nothing is down"


@agent
async def triage(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """Summary, queue, and an answer that knows what the tools have found."""
    messages = [{"role": "system", "content": TRIAGE}, *EXAMPLES]
    messages.append({"role": "user", "content": f"Ticket: {body['ticket']}"})
    sorted_ = await llm.chat(
        model="small",
        messages=messages,
        max_tokens=80,
        temperature=0.0,
        response_format=form(summary={"type": "string", "maxLength": 120}, queue={"enum": list(QUEUES)}),
    )
    found = sorted_.json()
    facts: dict[str, str] = {}
    tools = {"find_order": (find_order, body["customer"]), "find_outage": (find_outage, found["queue"])}
    while len(facts) < len(tools):
        question = f"Ticket: {found['summary']}\nKnown: {facts or 'nothing'}\nWhich tool helps, or answer now?"
        choice = await llm.chat(
            model="small",
            messages=[{"role": "user", "content": question}],
            max_tokens=40,
            temperature=0.0,
            response_format=form(next={"enum": [*(name for name in tools if name not in facts), "answer"]}),
        )
        name = choice.json()["next"]
        if name == "answer":
            break
        tool, argument = tools[name]
        facts[name] = await llm.step(name, tool, argument)
    reply = await llm.chat(
        model="small",
        messages=[
            {"role": "system", "content": "Write one friendly sentence to the customer."},
            {"role": "user", "content": f"{found['summary']} We know: {'; '.join(facts.values()) or 'nothing yet'}."},
        ],
        max_tokens=60,
        temperature=0.0,
    )
    return {**found, "facts": facts, "reply": reply.text.strip()}


@agent
async def digest(body: dict[str, Any], llm: Llm) -> dict[str, Any]:
    """A text in pieces, side by side; then the pieces' summaries, again and again, until one is left."""

    async def summary(text: str) -> str:
        reply = await llm.chat(
            model="small",
            messages=[
                {"role": "system", "content": "Summarise the text in two sentences."},
                {"role": "user", "content": text},
            ],
            max_tokens=90,
            temperature=0.0,
        )
        return reply.text.strip()

    parts = pieces(body["text"].split("\n\n"))
    rounds = 0
    while len(parts) > 1 or not rounds:
        parts = pieces(await llm.gather(*map(summary, parts)))
        rounds += 1
    return {"title": body["title"], "rounds": rounds, "summary": await summary(parts[0])}


def pieces(paragraphs: list[str], size: int = 1_800) -> list[str]:
    """Paragraphs joined into pieces of about `size` characters."""
    found = [""]
    for paragraph in paragraphs:
        if found[-1] and len(found[-1]) + len(paragraph) > size:
            found.append("")
        found[-1] += f"{paragraph}\n\n"
    return found
