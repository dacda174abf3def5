"""A user's module of agents, beside overnight.toml."""

from tasks import Llm, agent


@agent
async def triage(ticket: dict[str, str], llm: Llm) -> dict[str, str]:
    """Ask a model for a queue, look up the customer, ask again."""
    queue = await llm.chat(model="small", messages=[{"role": "user", "content": f"Which queue? {ticket['text']}"}])
    order = await llm.step("find order", find_order, ticket["customer"])
    reply = await llm.chat(model="small", messages=[{"role": "user", "content": f"{order}: answer {queue.text}"}])
    return {"order": order, "answer": reply.text}


def find_order(customer: str) -> str:
    """Any function of yours: a query, a search, a file."""
    return f"order of {customer}"


@agent
async def endless(_: object, llm: Llm) -> None:
    """An agent that never has enough."""
    while True:
        await llm.chat(model="small", messages=[{"role": "user", "content": "More!"}])
