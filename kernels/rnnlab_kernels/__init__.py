"""Recurrent cells and the schedules that run them over time. Needs torch alone; Triton is imported when first used."""
