"""`python -m bayesian_text_classification` runs the command `bayesian-text-classification`.

It starts more slowly, because Python imports the package first.
"""

from bayesian_text_classification_command import main

if __name__ == "__main__":
    main()
