from oocml.engine.rehearsal import InMemory, cut_panel, problem_of

__all__ = ["InMemory", "cut_panel", "problem_of"]
