"""Compiles a model for a simulated WSE-3, times a token and generates text. `python examples/quickstart.py`"""

import wsesim

program = wsesim.compile("smollm2-135m", machine="wse3")
print(f"{program.model} on {program.machine.name}: {program.pes:,} PEs in {len(program.blocks)} blocks")

report = wsesim.simulate(program, phase="decode", context=512)
print(f"decode: {report.cycles:,} cycles a token, {report.tokens_per_second:,.0f} tokens/s, {report.by_kind()}")

prompt = "It was a dark and stormy night"
answer = wsesim.complete(prompt, model=program, max_tokens=24)
print(prompt + answer.text)

times = answer.completion.times
print(f"prompt {times.prompt_s * 1e3:.2f} ms, completion {times.completion_s * 1e3:.2f} ms, all of it modelled")
