"""`bayesian-text-classification export`: write a checkpoint for another server, or the settings of vLLM."""

import json
import shlex
from typing import Annotated, Literal

import typer

from .console import STDERR, STDOUT, fail, quiet_libraries
from .options import AllowPickle, Model, new_folder, not_empty


def export(
    model: Model = None,
    output: Annotated[
        str | None,
        typer.Option(
            help="Folder for the export; new or empty. Not for --to vllm, which prints.",
            show_default=False,
            callback=not_empty,
        ),
    ] = None,
    to: Annotated[
        Literal["transformers", "onnx", "vllm"],
        typer.Option(
            help="transformers: model and tokenizer, for every server that reads safetensors. onnx: a graph and the "
            "tokenizer. vllm: the command that serves --model in vLLM with calibrated scores."
        ),
    ] = "transformers",
    uncalibrated: Annotated[
        bool, typer.Option("--uncalibrated", help="Export the model as it is, without a calibration.")
    ] = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Write an ordinary checkpoint whose single pass gives the calibrated scores, without code of this package.

    --model is a folder that calibrate --num-samples 0 has written: the calibration goes into the last linear layer.
    """
    if to == "vllm":
        if output is not None:
            fail("--to vllm writes nothing: leave out --output")
        if uncalibrated:
            fail("--to vllm prints a calibration: leave out --uncalibrated")
    elif output is None:
        fail(f"--to {to} needs --output, the folder to write")
    else:
        new_folder(output)
    quiet_libraries()
    from bayesian_text_classification.distillation.affine import NotCalibratedError
    from bayesian_text_classification.distillation.vllm import pooler_settings
    from bayesian_text_classification.embedded import embedded_model
    from bayesian_text_classification.loading.classifiers import load_classifier
    from bayesian_text_classification.wording import first_line

    name = "the embedded model" if model is None else model
    try:
        with STDERR.status("exporting"):
            classifier = load_classifier(model, "cpu", allow_pickle=allow_pickle)
            if to == "vllm":
                settings = json.dumps(pooler_settings(classifier))
                words = [
                    "vllm",
                    "serve",
                    str(embedded_model() if model is None else model),
                    "--pooler-config",
                    settings,
                ]
                result = shlex.join(words)
            else:
                assert output is not None
                classifier.export(output, to, uncalibrated=uncalibrated)
                result = output
    except NotCalibratedError:
        given = "" if model is None else f" --model {shlex.quote(model)}"
        also = "" if to == "vllm" else ", or pass --uncalibrated to export it as it is"
        fail(
            f"the ordinary scores of {name} are not calibrated; run bayesian-text-classification calibrate{given} "
            f"--dataset my-labeled-texts.csv --num-samples 0 --output my-classifier, and export --model my-classifier"
            f"{also}"
        )
    except (ValueError, ImportError) as error:  # ours: the model, the folder, or a missing package
        fail(first_line(error))
    except OSError as error:
        fail(f"cannot write to --output {output}: {error.strerror or error}")
    except Exception as error:  # out of memory, or what a model's own code raises
        fail(f"the export failed with {type(error).__name__}: {first_line(error)}")
    STDOUT.print(result, highlight=False, soft_wrap=True, markup=False)
