"""What labeled probabilities can say: measures, their intervals, and the verdicts on their differences.

Everything here takes arrays, and nothing knows a model or an arm.
"""
