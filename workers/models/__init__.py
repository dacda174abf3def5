"""Which model takes a call and what it costs.

routing.py        routes: which provider, model and key may take a call
tokens.py         a body's tokens, estimated before the call
calibration.py    corrections of that estimate, learned from answers
prices.py         what tokens cost, in integers
tiers.py          the prices of the Batch API and of service tiers
shared_prices.py  prices that all workers share, in Redis
price_lookup.py   looks prices up, in a short-lived process
price_table.py    that process: the table of `genai-prices`
budgets.py        the budget windows that a job falls into
"""
