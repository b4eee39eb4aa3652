"""CM-Align and its relatives: from samples in many languages to preference pairs and a DPO-aligned model."""
