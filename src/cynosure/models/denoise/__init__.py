"""Networks that take noise out of latents, and between latents and images. Hands on no names."""
