# filled by its stage
