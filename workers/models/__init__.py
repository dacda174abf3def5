"""Which model takes a call and what it costs.

routing.py      which provider, model and key may take a call, and what it would cost each of them
prices.py       what tokens cost, in integers
price_table.py  the price table of `genai-prices`, asked in a process of its own
tokens.py       how many tokens a body has, before anyone has counted them
calibration.py  what models really count, learnt from their answers and shared by all workers
budgets.py      which windows of which budgets a job falls into, now and next
"""
