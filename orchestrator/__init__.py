"""The KYC onboarding orchestrator: from a merchant's signup hook to OSL Pay's verdict, durably."""

__version__ = "0.1.0"
