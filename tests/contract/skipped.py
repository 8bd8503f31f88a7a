"""Every one of transformers' common tests that may be skipped, by its exact name, and why; any other skip fails."""

TWO_TOWERS = ("test_attention_outputs", "test_hidden_states_output", "test_retain_grad_hidden_states_attentions")
REASONS = {
    "VideoCLIPModel has two towers, two sets of states: checked by feature, and on the segmentation head": [
        *TWO_TOWERS,
    ],
    "the segmentation head takes no words: their table is resized, and gets gradients, in VideoCLIPModel's tests": [
        "test_enable_input_require_grads_with_gradient_checkpointing",
        "test_resize_embeddings_untied",
        "test_resize_embeddings_untied_no_reinit_on_post_init",
        "test_resize_tokens_embeddings",
    ],
    "of causal, encoder-decoder and mixture-of-experts models, which ours are not": [
        "test_causal_lm_loss_honors_shift_labels",
        "test_eager_matches_batched_and_grouped_inference_0_fp16",
        "test_eager_matches_batched_and_grouped_inference_1_fp32",
        "test_eager_matches_batched_and_grouped_inference_2_bf16",
        "test_encoder_decoder_loss_no_double_shift",
        "test_moe_models_record_router_logits",
        "test_output_router_logits_from_config",
        "test_sliding_window_mask",
    ],
    "of rotary positions; ours are learnt, and their number is the config's": [
        "test_model_rope_scaling_frequencies",
        "test_model_rope_scaling_from_config_0_linear",
        "test_model_rope_scaling_from_config_1_dynamic",
        "test_model_rope_scaling_from_config_2_yarn",
        "test_model_rope_with_partial_rotation",
        "test_resize_position_vector_embeddings",
        "test_vision_axial_rope",
    ],
    "forward has no `inputs_embeds`: video features are the other input": ["test_inputs_embeds"],
    "no module of ours must stay in float32": [
        "test_keep_in_fp32_modules",
        "test_keep_in_fp32_modules_exist",
    ],
    "no weights are renamed or merged as they are loaded": [
        "test_can_load_from_already_mapped_keys",
        "test_reverse_loading_mapping",
    ],
    "no plan for tensor parallelism: a tower fits any device": [
        "test_tied_head_has_a_tp_plan_entry",
        "test_tp_plan_matches_params",
    ],
    "of models of one part, or whose parts are called vision and language; test_model.py compares sdpa with eager": [
        "test_sdpa_can_dispatch_composite_models",
        "test_sdpa_can_dispatch_non_composite_models",
    ],
    "need a GPU (some several, some an Apple one, some DeepSpeed, some RUN_SLOW=1)": [
        "test_can_load_with_device_context_manager",
        "test_can_load_with_global_device_set",
        "test_cpu_offload",
        "test_disk_offload_bin",
        "test_disk_offload_safetensors",
        "test_flex_attention_with_grads",
        "test_kernels_can_load_without_crashing",
        "test_model_parallelism",
        "test_resize_embeddings_untied_with_deepspeed",
        "test_resize_embeddings_untied_with_deepspeed_multi_gpu",
        "test_resize_tokens_embeddings_with_deepspeed",
        "test_resize_tokens_embeddings_with_deepspeed_multi_gpu",
        "test_sdpa_can_compile_dynamic",
        "test_sdpa_can_dispatch_on_flash",
        "test_torch_compile_for_training",
    ],
    "need a GPU and flash attention": [
        "test_flash_attn_kernels_inference_equivalence",
        "test_flash_attn_kernels_mps_inference_equivalence",
        *(
            f"test_flash_attn_{version}_{what}"
            for version in (2, 3, 4)
            for what in (
                "can_dispatch_composite_models",
                "from_config",
                "inference_equivalence",
                "inference_equivalence_right_padding",
            )
        ),
        "test_flash_attn_2_can_compile_with_attention_mask_None_without_graph_break",
        "test_flash_attn_2_fp32_ln",
    ],
    "need peft": ["test_peft_gradient_checkpointing_enable_disable"],
}
SKIPPED = {name: reason for reason, names in REASONS.items() for name in names}
