"""TLS settings, shared by the connections to servers and to sentinels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from fairque.core.strict import StrictModel, refuse

if TYPE_CHECKING:
    from collections.abc import Iterator


def _known_flags(names: list[str]) -> list[str]:
    from ssl import VerifyFlags  # noqa: PLC0415 - only TLS users pay for it

    unknown = [name for name in names if name not in VerifyFlags.__members__]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: no such flag; known are {', '.join(VerifyFlags.__members__)}"
        )
    return names


def _made_in_code(value: object) -> object:
    if isinstance(value, (str, bytes, int, float, list, dict)):
        raise ValueError("must be an OpenSSL.SSL.Context, which only code can make: leave it out here")  # noqa: TRY004
    return value


VerifyFlagNames = Annotated[list[str], AfterValidator(_known_flags)]


class TlsConfig(StrictModel):
    """TLS towards one kind of server. Each `ssl_*` setting has the name and meaning it has in redis-py."""

    ssl: bool = Field(False, description="Encrypt the connection. A rediss:// URL implies it.")
    ssl_keyfile: str | None = Field(None, description="Path of the client's private key (PEM).")
    ssl_certfile: str | None = Field(None, description="Path of the client's certificate (PEM).")
    ssl_password: SecretStr | None = Field(None, description="Passphrase of the private key.")
    ssl_cert_reqs: Literal["none", "optional", "required"] = Field(
        "required", description="Whether the server's certificate is verified."
    )
    ssl_check_hostname: bool = Field(True, description="Whether the certificate must name the host.")
    ssl_ca_certs: str | None = Field(None, description="Path of a file of trusted CA certificates (PEM).")
    ssl_ca_path: str | None = Field(None, description="Path of a directory of trusted CA certificates.")
    ssl_ca_data: str | None = Field(None, description="The trusted CA certificates themselves (PEM text).")
    ssl_min_version: Literal["TLSv1.2", "TLSv1.3"] | None = Field(
        None, description="Lowest TLS version to accept; unset leaves it to Python's ssl module."
    )
    ssl_ciphers: str | None = Field(None, description="OpenSSL list of ciphers allowed up to TLS 1.2.")
    ssl_include_verify_flags: VerifyFlagNames | None = Field(
        None, description="Names of ssl.VerifyFlags to add, such as VERIFY_X509_STRICT."
    )
    ssl_exclude_verify_flags: VerifyFlagNames | None = Field(
        None, description="Names of ssl.VerifyFlags to take away."
    )
    ssl_validate_ocsp: bool = Field(
        False, description="Ask the certificate's OCSP responder (blocking clients only)."
    )
    ssl_validate_ocsp_stapled: bool = Field(
        False, description="Verify a stapled OCSP response (blocking clients only; needs pyOpenSSL)."
    )
    ssl_ocsp_context: Annotated[Any, BeforeValidator(_made_in_code)] = Field(
        None, description="OpenSSL.SSL.Context for the stapled response; settable from code only."
    )
    ssl_ocsp_expected_cert: str | None = Field(
        None, description="PEM text of the certificate that the stapled OCSP response must carry."
    )

    @model_validator(mode="after")
    def _every_tls_setting_has_an_effect(self) -> Self:
        refuse(self._tls_conflicts())
        return self

    def _tls_conflicts(self) -> Iterator[str]:
        given = sorted(name for name in self.changed() if name.startswith("ssl_"))
        if given and not self.ssl:
            yield f"{', '.join(given)} has no effect without ssl: true (or a rediss:// URL)"
        if (self.ssl_keyfile or self.ssl_password) and not self.ssl_certfile:
            yield "ssl_keyfile and ssl_password need ssl_certfile"
        if (
            self.ssl_cert_reqs == "none"
            and self.ssl_check_hostname
            and "ssl_check_hostname" in self.model_fields_set
        ):
            yield "ssl_check_hostname cannot be checked with ssl_cert_reqs: none"
        if self.ssl_validate_ocsp and self.ssl_validate_ocsp_stapled:
            yield "choose one of ssl_validate_ocsp and ssl_validate_ocsp_stapled"
        if (self.ssl_ocsp_context or self.ssl_ocsp_expected_cert) and not self.ssl_validate_ocsp_stapled:
            yield "ssl_ocsp_context and ssl_ocsp_expected_cert need ssl_validate_ocsp_stapled: true"

    def changed(self) -> set[str]:
        """The settings that differ from their default."""
        return {
            name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default
        }
