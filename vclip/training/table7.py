"""The rows of the paper's Table 7, each as an edit of a pre-training config."""

import dataclasses

from vclip.training.config import PretrainConfig


def without_retrieval(config: PretrainConfig) -> PretrainConfig:
    """Train on shuffled batches instead of clusters of similar videos (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> without_retrieval(PretrainConfig()).retrieval
        False
    """
    return dataclasses.replace(config, retrieval=False)


def exact_alignment(config: PretrainConfig) -> PretrainConfig:
    """Let a video clip span exactly its text clip, without overlap or a length of its own (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> exact_alignment(PretrainConfig()).sampler
        'aligned'
    """
    return dataclasses.replace(config, sampler="aligned")


def mil_nce_clips(config: PretrainConfig) -> PretrainConfig:
    """Take short clips with several candidate captions, and the MIL-NCE loss (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> mil_nce_clips(PretrainConfig()).sampler
        'mil_nce'
    """
    return dataclasses.replace(config, sampler="mil_nce")


def shared_towers(config: PretrainConfig) -> PretrainConfig:
    """Use one tower for both modalities, as deep as the text tower (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> shared_towers(PretrainConfig()).model
        {'share_towers': True}
    """
    model = dict(config.model)
    text = model.pop("text_config", None)
    if text is not None:
        model["video_config"] = text
    return dataclasses.replace(config, model=model | {"share_towers": True})


def retrieve_k(config: PretrainConfig) -> PretrainConfig:
    """Let a cluster be the k nearest videos, not k drawn from the nearest 2k (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> retrieve_k(PretrainConfig(videos_per_batch=32)).candidates
        32
    """
    return dataclasses.replace(config, candidates=config.videos_per_batch)


def first_32_seconds(config: PretrainConfig) -> PretrainConfig:
    """Take a video's vector from the clip of its first caption alone (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> first_32_seconds(PretrainConfig()).retrieval_first
        True
    """
    return dataclasses.replace(config, retrieval_first=True)


def use_cls(config: PretrainConfig) -> PretrainConfig:
    """Let z_v and z_t be the states of [CLS] instead of means (Table 7).

    Args:
        config: the run to vary; it stays as it is.

    Returns:
        A new config.

    Example:
        >>> use_cls(PretrainConfig()).model
        {'pooling': 'cls'}
    """
    return dataclasses.replace(config, model=config.model | {"pooling": "cls"})
